"""Check each server of a database URL that names several: exactly one may accept writes."""

from collections.abc import Iterator

from sqlalchemy import URL, text
from sqlalchemy.exc import DBAPIError

from emotion_admin.doctor import server_errors
from emotion_admin.doctor.finding import Finding, ok, problem, warning
from emotion_daemon.storage.errors import reason
from shared.database import reader_engine

SUBJECT = "database servers"

_ACCEPTS_WRITES = text("SELECT NOT pg_is_in_recovery() AND current_setting('default_transaction_read_only') = 'off'")


def examine(url: URL) -> Iterator[Finding]:
    """Connect to each server of `url`. Yields nothing if there is only one."""
    servers = _servers(url)
    if len(servers) < 2:
        return
    if url.query.get("target_session_attrs") not in ("read-write", "primary"):
        yield warning(
            SUBJECT,
            "the URL names several servers, and the first that answers is used, also if it is a standby",
            "Add target_session_attrs=read-write to EMOTION_DATABASE_URL of the daemon.",
        )
    writable: list[str] = []
    others: list[str] = []
    for name, its_url in servers:
        try:
            (writable if _accepts_writes(its_url) else others).append(name)
        except DBAPIError as error:
            said = reason(error)
            yield warning(SUBJECT, f"{name} cannot be used: {said}", server_errors.advice(said))
    if len(writable) > 1:
        yield problem(
            SUBJECT,
            f"more than one server accepts writes: {', '.join(writable)}",
            "Stop all but the one that was promoted last, at once: the daemon may write to any of them. Set up the "
            "others anew as standbys before you start them.",
        )
    elif writable:
        yield ok(SUBJECT, f"{writable[0]} accepts writes" + "".join(f", {name} does not" for name in others))


def _servers(url: URL) -> list[tuple[str, str]]:
    """The name of each server, and a URL of it alone."""
    arguments = url.get_dialect()().create_connect_args(url)[1]
    hosts = str(arguments.get("host", "")).split(",")
    ports = str(arguments.get("port", "")).split(",")
    if len(ports) < len(hosts):
        ports = ports * len(hosts)
    alone = url.difference_update_query(["host", "port", "target_session_attrs"]).set(host=None, port=None)
    return [(f"{host}:{port or 5432}", _url_of(alone, host, port)) for host, port in zip(hosts, ports, strict=True)]


def _url_of(url: URL, host: str, port: str) -> str:
    server = {"host": host, "port": port} if port else {"host": host}
    return url.update_query_dict(server).render_as_string(hide_password=False)


def _accepts_writes(url: str) -> bool:
    """Raises DBAPIError."""
    engine = reader_engine(url)
    try:
        with engine.connect() as connection:
            return bool(connection.scalar(_ACCEPTS_WRITES))
    finally:
        engine.dispose()
