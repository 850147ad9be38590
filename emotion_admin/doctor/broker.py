"""The way to the broker: its name, a connection, who gets in, and what it says to the daemon's login."""

import ipaddress
import secrets
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from emotion_admin.doctor import connack, daemon_connection, mqtt_probe, tls
from emotion_admin.doctor.connack import LOGIN
from emotion_admin.doctor.daemon_status import Running, ask
from emotion_admin.doctor.finding import Finding, ok, problem, warning
from emotion_admin.doctor.listen_addresses import is_on_loopback_alone
from emotion_daemon.mqtt.subscriber import KEEPALIVE_SECONDS
from shared.batch import Topics
from shared.settings import Settings

ADDRESS = "broker address"
ANONYMOUS = "broker anonymous"

CLASH_SECONDS = 2.0
"""How long doctor stays: another client with the same id that was pushed out is back by then."""

RETAINED_SECONDS = 1.0

_LISTENERS = ("/proc/net/tcp", "/proc/net/tcp6")
_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Way:
    """How far one gets, and whether the broker is on this machine."""

    findings: list[Finding]
    reached: bool
    is_local: bool


def examine(settings: Settings, running: Running, *, log_in: bool) -> Iterator[Finding]:
    """All of it. The daemon's own login is tried where no daemon runs, and with `log_in` where that is not known."""
    way = _find_way(settings)
    if not way.reached:
        yield from way.findings
        return
    anonymous = _connect_anonymously(settings)
    address, *others = way.findings
    yield address if anonymous.reason_code is not None else _mute(settings, running, anonymous)
    yield from others
    if anonymous.reason_code is not None:
        is_local = way.is_local and is_on_loopback_alone(settings.mqtt_port, *map(_read, _LISTENERS))
        yield judge_anonymous(anonymous, is_local=is_local)
    yield from _login(settings, running, anonymous, log_in=log_in)


def judge_anonymous(answer: connack.Answer, *, is_local: bool) -> Finding:
    """Whether the broker lets in clients without a login; `is_local`: only this machine can reach it, for certain."""
    if answer.wants_login:
        return ok(ANONYMOUS, "the broker lets nobody in without a login")
    if not answer.let_in:
        return ok(ANONYMOUS, f"cannot tell whether it lets in clients without a login: {connack.what_came(answer)}")
    if is_local:
        return ok(ANONYMOUS, "the broker lets in clients without a login, and can be reached on this machine only")
    return warning(
        ANONYMOUS,
        "the broker lets in clients without a login: whoever reaches it can read all batches and send false ones",
        "Fine only where it listens on 127.0.0.1 alone. Mosquitto: allow_anonymous false, and a login for each device "
        "(scripts/device add).",
    )


def _mute(settings: Settings, running: Running, anonymous: connack.Answer) -> Finding:
    where, came = f"{settings.mqtt_host}:{settings.mqtt_port}", connack.what_came(anonymous)
    if running.subscribed:
        return warning(
            ADDRESS,
            f"{where} has the running daemon connected, and gives no MQTT answer to one more client: {came}",
            "Has it reached its limit of connections (Mosquitto: max_connections)? Then it refuses devices, too: "
            "raise it. The broker's log has its side.",
        )
    return warning(
        ADDRESS,
        f"{where} takes connections, and gives no MQTT answer without a login: {came}",
        connack.NO_ANSWER_ADVICE,
    )


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _find_way(settings: Settings) -> _Way:
    host, port = settings.mqtt_host, settings.mqtt_port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        advice = "Is EMOTION_MQTT_HOST right? In containers it is the broker's service, and that has to run."
        return _Way([problem(ADDRESS, f"no address for the name {host}: {error}", advice)], False, False)
    addresses = [str(entry[4][0]) for entry in found]
    is_local = all(_is_loopback(address) for address in addresses)
    try:
        connection = socket.create_connection((host, port), timeout=_PATIENCE_SECONDS, all_errors=True)
    except ExceptionGroup as errors:
        return _Way([_unreachable(f"{host}:{port}", _most_telling(errors.exceptions))], False, is_local)
    with connection:
        findings = [ok(ADDRESS, f"{host}:{port} answers at {connection.getpeername()[0]}")]
        if settings.mqtt_tls_ca is not None:
            findings.append(tls.examine(connection, host, settings.mqtt_tls_ca))
    return _Way(findings, findings[-1].level != "problem", is_local)


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _most_telling(errors: Sequence[Exception]) -> Exception:
    """Of those of several addresses: where there is no IPv6, its error says nothing of the broker."""
    told = (error for kind in (ConnectionRefusedError, TimeoutError) for error in errors if isinstance(error, kind))
    return next(told, errors[-1])


def _unreachable(where: str, error: Exception) -> Finding:
    if isinstance(error, ConnectionRefusedError):
        return problem(
            ADDRESS,
            f"nothing listens at {where}",
            "Start the broker (docker compose up -d, systemctl start mosquitto, scripts/run), or set EMOTION_MQTT_HOST "
            "and _PORT right.",
        )
    if isinstance(error, TimeoutError):
        return problem(ADDRESS, f"{where} does not answer", "A firewall in between, or the machine is down.")
    return problem(
        ADDRESS,
        f"{where} cannot be reached: {getattr(error, 'strerror', None) or error}",
        "See the network of this machine or container.",
    )


def _connect_anonymously(settings: Settings) -> connack.Answer:
    """As nobody, under an id of its own; also hears whether somebody is online as the daemon."""
    return mqtt_probe.connect(
        settings.mqtt_host,
        settings.mqtt_port,
        client_id=f"emotion-doctor-{secrets.token_hex(4)}",
        tls_ca=settings.mqtt_tls_ca,
        seconds=RETAINED_SECONDS,
        retained_topic=Topics(settings.mqtt_topic_prefix).status(settings.mqtt_client_id),
    )


def _login(settings: Settings, running: Running, anonymous: connack.Answer, *, log_in: bool) -> Iterator[Finding]:
    """The shipped brokers take a login for the client id: it takes the daemon's session over, and the daemon ends."""
    if running.here or (running := ask(settings)).here:  # it may have started only just now
        yield from daemon_connection.examine(running, settings, anonymous=anonymous)
    elif anonymous.retained == b"online" and not log_in:
        online = f"one is online at this broker as {settings.mqtt_client_id!r}"
        if running.here is None:
            yield ok(LOGIN, f"not tried: {online}, perhaps the one here: then it works, and a login would end it")
            return
        yield warning(
            LOGIN,
            f"not tried: no daemon runs here, but {online}, and a login would end it",
            "If it is no second daemon but one that the broker has not missed yet: the same command with --log-in.",
        )
    elif running.here is None and not log_in:
        yield ok(
            LOGIN, "not tried: if a daemon runs, that would end it. Where none does: the same command with --log-in"
        )
    else:
        answer = mqtt_probe.connect(
            settings.mqtt_host,
            settings.mqtt_port,
            client_id=settings.mqtt_client_id,
            username=settings.mqtt_username,
            password=settings.mqtt_password,
            tls_ca=settings.mqtt_tls_ca,
            resume=True,
            seconds=CLASH_SECONDS,
        )
        if answer.lost and ask(settings).here:
            yield ok(LOGIN, "let in, until a daemon of ours started meanwhile")
            return
        yield from connack.judge(
            answer,
            client_id=settings.mqtt_client_id,
            username=settings.mqtt_username,
            keep_alive=KEEPALIVE_SECONDS,
        )
