"""The broker: its address, whether it accepts clients without a login, and its answer to the daemon's login."""

import socket
from collections.abc import Iterator
from ipaddress import ip_address
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
STATE = "broker state"

CLASH_SECONDS = 2.0
"""Seconds for which doctor stays connected. A client with the same id that was disconnected is back by then."""

RETAINED_SECONDS = 1.0

_LISTENERS = ("/proc/net/tcp", "/proc/net/tcp6")
_CONNECT_SECONDS = 5.0


def examine(settings: Settings, daemon: DaemonStatus, *, log_in: bool) -> Iterator[Finding]:
    """Check the connection step by step. doctor logs in as the daemon only if none runs, or `log_in` says so."""
    host, port = settings.mqtt_host, settings.mqtt_port
    try:
        connection = socket.create_connection((host, port), timeout=_CONNECT_SECONDS)
    except (socket.gaierror, UnicodeError) as error:
        yield problem(
            ADDRESS,
            f"no address for the name {host}: {error}",
            "Check EMOTION_MQTT_HOST. In containers it is the broker's service, which has to run.",
        )
        return
    except OSError as error:
        yield _unreachable(f"{host}:{port}", error)
        return
    with connection:
        peer = str(connection.getpeername()[0])
        reached = ok(ADDRESS, f"{host}:{port} answers at {peer}")
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
        is_local = ip_address(peer).is_loopback and is_on_loopback_alone(port, *map(_read, _LISTENERS))
        yield judge_anonymous(anonymous, is_local=is_local)
    yield from _login(settings, daemon, anonymous, log_in=log_in)


def judge_anonymous(result: ProbeResult, *, is_local: bool) -> Finding:
    """Judge a connection without a login. `is_local` says that only this machine can reach the broker."""
    if result.wants_login:
        return ok(ANONYMOUS, "the broker accepts only clients with a login")
    if not result.accepted:
        return ok(ANONYMOUS, f"cannot tell whether the broker accepts clients without a login: {result.why_not}")
    if is_local:
        return ok(ANONYMOUS, "the broker accepts clients without a login, but only this machine can reach it")
    return warning(
        ANONYMOUS,
        "the broker accepts clients without a login: they can read all batches and send false ones",
        "Mosquitto: set allow_anonymous false, and give each device a login (scripts/device add).",
    )


def judge_set_aside(path: str) -> Finding:
    """Judge a file of the broker's state that was damaged, so that the broker started without it.

    `path` is "?" if scripts/doctor cannot look for such files.
    """
    if path == "?":
        return ok(STATE, "not checked for damaged files: the broker's folder cannot be read")
    return warning(
        STATE,
        f"the broker's stored state was damaged and is now {path}: sessions and queued messages in it are lost",
        "Check this machine's power and disk. Then delete the file: it may contain people's data.",
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


def _unreachable(address: str, error: OSError) -> Finding:
    if isinstance(error, ConnectionRefusedError):
        return problem(
            ADDRESS,
            f"nothing listens at {address}",
            "Start the broker (docker compose up -d, systemctl start mosquitto, scripts/run), or correct "
            "EMOTION_MQTT_HOST and EMOTION_MQTT_PORT.",
        )
    if isinstance(error, TimeoutError):
        return problem(
            ADDRESS,
            f"{address} does not answer within {_CONNECT_SECONDS:.0f} s",
            "See a line about the services above: a container that starts again and again has no address. If there is "
            "none, check whether the host is up, then firewalls on the way.",
        )
    return problem(
        ADDRESS,
        f"cannot reach {address}: {error.strerror or error}",
        "See a line about the services above. If there is none, check the network of this machine or container.",
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
