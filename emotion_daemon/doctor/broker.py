"""The way to the broker: its name, a connection, TLS, who gets in, and what it says to the daemon's login."""

import ipaddress
import secrets
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from emotion_daemon.doctor import connack, mqtt_probe
from emotion_daemon.doctor.connack import LOGIN
from emotion_daemon.doctor.finding import Finding, ok, problem, warning
from emotion_daemon.doctor.listening import is_on_loopback_alone
from emotion_daemon.doctor.running import Running, ask
from emotion_daemon.subscriber import KEEPALIVE_SECONDS, SUSPICIOUS_LOSSES
from shared.batch import Topics
from shared.settings import Settings

ADDRESS = "broker address"
TLS = "broker tls"
DEVICES_TLS = "broker tls, devices"
ANONYMOUS = "broker anonymous"

CLASH_SECONDS = 2.0
"""How long doctor stays: another client with the same id that was pushed out is back by then."""

RECONNECT_SECONDS = 6.0
"""Within this a daemon that another client pushes out has come back: each of the two waits 3 s at most."""

MOST_RECONNECTS = 5
"""More than these since the daemon's start, and more than one in RARE_SECONDS on average, is no mere outage."""

RARE_SECONDS = 60.0
RETAINED_SECONDS = 1.0
EXPIRY_DAYS = 30

_LISTENERS = ("/proc/net/tcp", "/proc/net/tcp6")
_PATIENCE_SECONDS = 5.0
_DAY = 86_400.0


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
    yield address if anonymous.reason_code is not None else _mute(settings, anonymous)
    yield from others
    if anonymous.reason_code is not None:
        is_local = way.is_local and is_on_loopback_alone(settings.mqtt_port, *map(_read, _LISTENERS))
        yield judge_anonymous(let_in=anonymous.let_in, is_local=is_local)
    yield from _login(settings, running, log_in=log_in, presence=anonymous.retained)


def judge_anonymous(*, let_in: bool, is_local: bool) -> Finding:
    """Whether the broker lets in clients without a login; `is_local`: only this machine can reach it, for certain."""
    if not let_in:
        return ok(ANONYMOUS, "the broker lets nobody in without a login")
    if is_local:
        return ok(ANONYMOUS, "the broker lets in clients without a login, and can be reached on this machine only")
    return warning(
        ANONYMOUS,
        "the broker lets in clients without a login: whoever reaches it can read all batches and send false ones",
        "Fine only where it listens on 127.0.0.1 alone. Mosquitto: allow_anonymous false, and a login for each device "
        "(scripts/device add).",
    )


def _mute(settings: Settings, anonymous: connack.Answer) -> Finding:
    return warning(
        ADDRESS,
        f"{settings.mqtt_host}:{settings.mqtt_port} takes connections, and gives no MQTT answer without a login: "
        f"{connack.what_came(anonymous)}",
        connack.NO_ANSWER_ADVICE,
    )


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def judge_certificate(not_after: str, *, now: float) -> Finding:
    """`not_after` as in `SSLSocket.getpeercert`; `now` is unix time."""
    left = (ssl.cert_time_to_seconds(not_after) - now) / _DAY
    if left < EXPIRY_DAYS:
        return warning(
            TLS,
            f"the broker's certificate ends in {left:.0f} days ({not_after}); then neither daemon nor devices connect",
            "Put its successor in place: scripts/tls on server.crt server.key.",
        )
    return ok(TLS, f"the broker's certificate is right, and ends in {left:.0f} days")


def judge_devices_certificate(not_after: str, *, now: float) -> Finding:
    """Of the port that devices use: `not_after` as above, "" where that port did not answer with TLS."""
    if not not_after:
        return warning(
            DEVICES_TLS,
            "TLS is on for devices, and their port does not answer with it",
            "Does the broker run? Its log says what is wrong with the certificate; scripts/tls on puts another there.",
        )
    left = (ssl.cert_time_to_seconds(not_after) - now) / _DAY
    if left >= EXPIRY_DAYS:
        return ok(DEVICES_TLS, f"the certificate that devices see ends in {left:.0f} days")
    ends = f"ends in {left:.0f} days" if left > 0 else f"ended {-left:.0f} days ago"
    return warning(
        DEVICES_TLS,
        f"the certificate that devices see {ends} ({not_after}): from then on none connects",
        "Put its successor in place: scripts/tls on server.crt server.key.",
    )


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
        connection = socket.create_connection((host, port), timeout=_PATIENCE_SECONDS)
    except OSError as error:
        return _Way([_unreachable(f"{host}:{port}", error)], False, is_local)
    with connection:
        findings = [ok(ADDRESS, f"{host}:{port} answers at {connection.getpeername()[0]}")]
        if settings.mqtt_tls_ca is not None:
            findings.append(_try_tls(connection, host, settings.mqtt_tls_ca))
    return _Way(findings, findings[-1].level != "problem", is_local)


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _unreachable(where: str, error: OSError) -> Finding:
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
        ADDRESS, f"{where} cannot be reached: {error.strerror}", "See the network of this machine or container."
    )


def _try_tls(connection: socket.socket, host: str, ca: Path) -> Finding:
    try:
        context = ssl.create_default_context(cafile=ca)
        with context.wrap_socket(connection, server_hostname=host) as secured:
            certificate = secured.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        return problem(
            TLS, f"the broker's certificate is not believed: {error.verify_message}", _certificate_advice(error)
        )
    except OSError as error:  # ssl.SSLError is one, too
        why = getattr(error, "reason", None) or error.strerror or str(error)
        return problem(
            TLS, f"no TLS with this port: {why}", "Does it speak TLS (8883)? Without, leave EMOTION_MQTT_TLS_CA empty."
        )
    return judge_certificate(str(certificate["notAfter"]), now=time.time())


def _certificate_advice(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == 10:  # X509_V_ERR_CERT_HAS_EXPIRED
        return "Put its successor in place: scripts/tls on server.crt server.key. Or this machine's clock is ahead."
    if error.verify_code == 9:  # X509_V_ERR_CERT_NOT_YET_VALID
        return "This machine's clock is behind, or the certificate is for later."
    if error.verify_code in (62, 64):  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
        return "Set EMOTION_MQTT_HOST to a name that is in the certificate, or make one with this name."
    return (
        "EMOTION_MQTT_TLS_CA has to be the CA that signed it; a broker with a public certificate has to send the chain."
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


def _login(settings: Settings, running: Running, *, log_in: bool, presence: bytes | None) -> Iterator[Finding]:
    """The shipped brokers take a login for the client id: it takes the daemon's session over, and the daemon ends."""
    if running.here or (running := ask(settings)).here:  # it may have started only just now
        yield from _asked(running, settings)
    elif presence == b"online" and not log_in:
        yield warning(
            LOGIN,
            "not tried: no daemon runs here, but one is online at this broker as "
            f"{settings.mqtt_client_id!r}, and a login "
            "would end it",
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


def _asked(running: Running, settings: Settings) -> Iterator[Finding]:
    """What the running daemon says of its connection. Where it was lost before, it is asked again a little later."""
    if running.metrics.get("emotion_broker_connected") is None:
        yield ok(LOGIN, "not tried: it would end the running daemon, whose log says how it gets on with the broker")
        yield _no_limits()
        return
    lost = _reconnects(running)
    if lost or not running.metrics["emotion_broker_connected"]:
        running = _ask_until_reconnected(running, settings)
    yield from judge_reconnects(running, before=lost, now=time.time(), client_id=settings.mqtt_client_id)
    if not running.metrics.get("emotion_broker_connected"):
        yield problem(
            LOGIN,
            "asked the running daemon instead: it is not connected",
            "Its log has the broker's reason. If there is none: stop the daemon, and run doctor again, "
            "which then logs in.",
        )
        return
    waiting = running.metrics.get("emotion_waiting_messages", 0)
    yield ok(
        LOGIN,
        f"asked the running daemon instead: it is subscribed; reconnects since its start: {_reconnects(running):.0f}, "
        f"messages in hand: {waiting:.0f}",
    )
    prefix = "emotion_broker_limit:"
    limits = {name.removeprefix(prefix): at for name, at in running.metrics.items() if name.startswith(prefix)}
    if limits:
        yield from connack.judge_running(limits, keep_alive=KEEPALIVE_SECONDS)
    else:
        yield _no_limits()


def _no_limits() -> Finding:
    return ok(connack.LIMITS, "not looked at while a daemon runs that does not tell them")


def judge_reconnects(running: Running, *, before: float, now: float, client_id: str) -> Iterator[Finding]:
    """Whether another client pushes the daemon out, who comes back; `before` is what it had counted a moment ago."""
    lost = _reconnects(running)
    age = now - running.metrics.get("emotion_start_timestamp_seconds", 0)
    who = f"another client may use the daemon's client id {client_id!r}, or its login"
    if lost > before:
        judged = problem if lost > SUSPICIOUS_LOSSES else warning  # the first may be the end of an outage
        found = f"the daemon was without the broker and came back just now, {lost:.0f} times since its start: {who}"
        yield judged(connack.SESSION, found, connack.CLASH_ADVICE)
    elif lost > MOST_RECONNECTS and age < lost * RARE_SECONDS:
        yield warning(
            connack.SESSION,
            f"the daemon has lost the broker every {age / lost:.0f} s since its start: {who}",
            f"{connack.CLASH_ADVICE} If there is none: look at the network, and at the broker's log.",
        )


def _ask_until_reconnected(running: Running, settings: Settings) -> Running:
    """The daemon once more, as soon as it has subscribed anew, RECONNECT_SECONDS at most."""
    end = time.monotonic() + RECONNECT_SECONDS
    newest = running
    while _reconnects(newest) <= _reconnects(running) and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.25))
        again = ask(settings)
        newest = again if again.metrics else newest
    return newest


def _reconnects(running: Running) -> float:
    return running.metrics.get("emotion_broker_reconnects_total", 0)
