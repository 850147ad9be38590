"""The broker: its address, whether it accepts clients without a login, and its answer to the daemon's login."""

import ipaddress
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from emotion_admin.doctor import connack, daemon_connection, mqtt_probe, tls
from emotion_admin.doctor.connack import LOGIN, ProbeResult
from emotion_admin.doctor.daemon_status import DaemonStatus, query
from emotion_admin.doctor.finding import Finding, ok, problem, warning
from emotion_admin.doctor.listen_addresses import is_on_loopback_alone
from shared.batch import Topics
from shared.settings import Settings

ADDRESS = "broker address"
ANONYMOUS = "broker anonymous"

CLASH_SECONDS = 2.0
"""How long doctor stays connected. A client with the same id that was disconnected is back by then."""

RETAINED_SECONDS = 1.0

_LISTENERS = ("/proc/net/tcp", "/proc/net/tcp6")
_CONNECT_SECONDS = 5.0


def examine(settings: Settings, daemon: DaemonStatus, *, log_in: bool) -> Iterator[Finding]:
    """Check the connection step by step. doctor logs in as the daemon only if none runs, or `log_in` says so."""
    host, port = settings.mqtt_host, settings.mqtt_port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        connection = socket.create_connection((host, port), timeout=_CONNECT_SECONDS, all_errors=True)
    except (OSError, UnicodeError) as error:
        yield problem(
            ADDRESS,
            f"no address for the name {host}: {error}",
            "Check EMOTION_MQTT_HOST. In containers it is the broker's service, which has to run.",
        )
        return
    except ExceptionGroup as errors:
        yield _unreachable(f"{host}:{port}", _most_telling(errors.exceptions))
        return
    with connection:
        reached = ok(ADDRESS, f"{host}:{port} answers at {connection.getpeername()[0]}")
        certificate = None if settings.mqtt_tls_ca is None else tls.examine(connection, host, settings.mqtt_tls_ca)
    if certificate is not None and certificate.level == "problem":
        yield reached
        yield certificate
        return
    anonymous = mqtt_probe.probe(
        settings,
        as_daemon=False,
        seconds=RETAINED_SECONDS,
        retained_topic=Topics(settings.mqtt_topic_prefix).status(settings.mqtt_client_id),
    )
    yield reached if anonymous.reason_code is not None else _no_answer(f"{host}:{port}", daemon, anonymous)
    if certificate is not None:
        yield certificate
    if anonymous.reason_code is not None:
        is_local = all(_is_loopback(str(entry[4][0])) for entry in found)
        is_local = is_local and is_on_loopback_alone(port, *map(_read, _LISTENERS))
        yield judge_anonymous(anonymous, is_local=is_local)
    yield from _login(settings, daemon, anonymous, log_in=log_in)


def judge_anonymous(result: ProbeResult, *, is_local: bool) -> Finding:
    """Judge a connection without a login. `is_local` says that only this machine can reach the broker, for certain."""
    if result.wants_login:
        return ok(ANONYMOUS, "the broker accepts only clients with a login")
    if not result.accepted:
        return ok(ANONYMOUS, f"cannot tell whether the broker accepts clients without a login: {result.why_not}")
    if is_local:
        return ok(ANONYMOUS, "the broker accepts clients without a login, but only this machine can reach it")
    return warning(
        ANONYMOUS,
        "the broker accepts clients without a login: they can read all batches and send false ones",
        "This is safe only if the broker listens on 127.0.0.1 alone. Mosquitto: set allow_anonymous false, and give "
        "each device a login (scripts/device add).",
    )


def _no_answer(address: str, daemon: DaemonStatus, anonymous: ProbeResult) -> Finding:
    if daemon.subscribed:
        return warning(
            ADDRESS,
            f"{address} has the running daemon connected, but gives no MQTT answer to one more client: "
            f"{anonymous.why_not}",
            "If the broker's log says that it reached its limit of connections, raise it (Mosquitto: max_connections): "
            "at the limit it refuses devices, too.",
        )
    return warning(
        ADDRESS,
        f"{address} accepts connections, but gives no MQTT answer to a client without a login: {anonymous.why_not}",
        connack.NO_ANSWER_ADVICE,
    )


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _most_telling(errors: Sequence[Exception]) -> Exception:
    """Choose from the errors of several addresses: without IPv6, its error says nothing about the broker."""
    telling = (error for kind in (ConnectionRefusedError, TimeoutError) for error in errors if isinstance(error, kind))
    return next(telling, errors[-1])


def _unreachable(address: str, error: Exception) -> Finding:
    if isinstance(error, ConnectionRefusedError):
        return problem(
            ADDRESS,
            f"nothing listens at {address}",
            "Start the broker (docker compose up -d, systemctl start mosquitto, scripts/run), or correct "
            "EMOTION_MQTT_HOST and EMOTION_MQTT_PORT.",
        )
    if isinstance(error, TimeoutError):
        return problem(ADDRESS, f"{address} does not answer", "Check firewalls on the way, and whether the host is up.")
    return problem(
        ADDRESS,
        f"cannot reach {address}: {getattr(error, 'strerror', None) or error}",
        "Check the network of this machine or container.",
    )


def _login(settings: Settings, daemon: DaemonStatus, anonymous: ProbeResult, *, log_in: bool) -> Iterator[Finding]:
    """Log in as the daemon, unless one may run: its session would move to doctor, and the daemon would exit."""
    if daemon.runs or (daemon := query(settings)).runs:  # it may have started meanwhile
        yield from daemon_connection.examine(daemon, settings, anonymous=anonymous)
    elif anonymous.retained == b"online" and not log_in:
        online = f"a client is online at this broker as {settings.mqtt_client_id!r}"
        if daemon.runs is None:
            yield ok(LOGIN, f"not tried: {online}, perhaps the daemon here. Then it works, and a login would end it")
            return
        yield warning(
            LOGIN,
            f"not tried: no daemon runs here, but {online}, and a login would end it",
            "Stop the second daemon. If there is none, the broker has not noticed the end of this one: run the same "
            "command with --log-in.",
        )
    elif daemon.runs is None and not log_in:
        yield ok(
            LOGIN, "not tried: a login would end a running daemon. If none runs, run the same command with --log-in"
        )
    else:
        result = mqtt_probe.probe(settings, as_daemon=True, seconds=CLASH_SECONDS)
        if result.lost and query(settings).runs:
            yield ok(LOGIN, "accepted, until a daemon started meanwhile")
            return
        yield from connack.judge(result, client_id=settings.mqtt_client_id, username=settings.mqtt_username)
