"""Interpret the broker's answer to a connection. Pure; mqtt_probe gets the answer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from emotion_admin.doctor.finding import Finding, ok, problem, warning
from emotion_daemon.mqtt.subscriber import FOREVER, broker_limits

LOGIN = "broker login"
SESSION = "broker session"
LIMITS = "broker limits"

CLASH_ADVICE = (
    "Find the other client in the broker's log and stop it: a second daemon, a program with the daemon's login, "
    "or a second doctor. Or give each its own login and EMOTION_MQTT_CLIENT_ID."
)

NO_ANSWER_ADVICE = (
    "Check that this port speaks MQTT without TLS. For TLS set EMOTION_MQTT_TLS_CA; MQTT over WebSockets has another "
    "port. See the broker's log; if it repeats `out of memory`, see "
    "docs/operate/limits.md#the-daemon-cannot-connect-to-a-full-broker."
)

SMALLEST_PACKET_BYTES = 256 * 2**10

_ALLOW_QOS_1 = "Allow QoS 1 at the broker (Mosquitto: max_qos)."
_ALLOW_RETAINED = "Allow retained messages at the broker (Mosquitto: retain_available)."

_BAD_LOGIN, _NOT_AUTHORIZED = 0x86, 0x87
_SESSION_TAKEN_OVER = 0x8E


@dataclass(slots=True)
class ProbeResult:
    """The result of one connection; mqtt_probe fills it in.

    `reason_code` is the CONNACK's, None if there was none; then `error` may say why. `ended` says that the broker
    closed the connection, with `end_code` if it gave one. `limits` are named as in `metrics.BROKER_LIMITS`.
    """

    reason_code: int | None = None
    reason: str = ""
    error: str = ""
    ended: bool = False
    end_code: int | None = None
    session_present: bool = False
    limits: Mapping[str, float] = field(default_factory=lambda: broker_limits(None))
    retained: bytes | None = None

    @property
    def accepted(self) -> bool:
        return self.reason_code is not None and self.reason_code < 0x80

    @property
    def lost(self) -> bool:
        """Return True if the broker closed a connection that it had accepted."""
        return self.ended and self.accepted

    @property
    def wants_login(self) -> bool:
        """Return True if the broker refused the login, or a connection without one."""
        return self.reason_code in (_BAD_LOGIN, _NOT_AUTHORIZED)

    @property
    def why_not(self) -> str:
        """Why the connection was not accepted."""
        if self.reason_code is not None:
            return f"the broker refused it: {self.reason}"
        return self.error or "the broker closed the connection without an answer"


def judge(result: ProbeResult, *, client_id: str, username: str | None) -> Iterator[Finding]:
    """Judge a login as the daemon."""
    who = "without a login" if username is None else f"as {username}"
    if not result.accepted:
        yield problem(LOGIN, f"{who}: {result.why_not}", advice(result.reason_code, username))
        return
    yield ok(LOGIN, f"accepted {who}")
    yield _session(result, client_id)
    yield from judge_limits(result.limits)


def judge_running(limits: Mapping[str, float]) -> Iterator[Finding]:
    """Judge the limits that the running daemon's CONNACK named."""
    if limits["session_expiry_seconds"] != FOREVER:
        yield _short_session(limits)
    yield from judge_limits(limits)


def advice(code: int | None, username: str | None) -> str:
    """Say what to do if the broker refused the daemon's login with this code; None means that no CONNACK came."""
    if code is None:
        return NO_ANSWER_ADVICE
    if code in (_BAD_LOGIN, _NOT_AUTHORIZED):
        if username is None:
            return "The broker wants a login: set EMOTION_MQTT_USERNAME and EMOTION_MQTT_PASSWORD (or ..._FILE)."
        return (
            "Compare EMOTION_MQTT_USERNAME and EMOTION_MQTT_PASSWORD with the broker's password file, then reload the "
            "broker: it may not have read the file since it changed."
        )
    return _ADVICE.get(code, "See the broker's log.")


_TRY_LATER = "Try again in a minute. See the broker's log and its limit of connections."
_ADVICE = {
    0x84: "The daemon needs MQTT 5: upgrade the broker (Mosquitto 1.6 or newer), or allow MQTT 5 there.",
    0x85: "Choose a client id that the broker's rules allow (EMOTION_MQTT_CLIENT_ID).",
    0x88: _TRY_LATER,
    0x89: _TRY_LATER,
    0x9A: f"The daemon's will and every device's status are retained messages. {_ALLOW_RETAINED}",
    0x9B: f"The daemon's will and its subscription use QoS 1. {_ALLOW_QOS_1}",
}


def _session(result: ProbeResult, client_id: str) -> Finding:
    if result.lost and result.end_code in (None, _SESSION_TAKEN_OVER):
        event = "the broker closed the connection" if result.end_code is None else "another client connected"
        return problem(
            SESSION,
            f"{event} within seconds: another client uses the daemon's client id {client_id!r}, or its login",
            CLASH_ADVICE,
        )
    if result.lost:
        return problem(
            SESSION, f"the broker closed the connection with code 0x{result.end_code:02X}", "See the broker's log."
        )
    if result.limits["session_expiry_seconds"] != FOREVER:
        return _short_session(result.limits)
    return ok(SESSION, "stored" if result.session_present else "none yet: the broker queues nothing for the daemon")


def _short_session(limits: Mapping[str, float]) -> Finding:
    return warning(
        SESSION,
        f"the broker deletes the daemon's session {limits['session_expiry_seconds']:.0f} s after a connection",
        "Let sessions last, or messages queued for longer are lost (Mosquitto: no persistent_client_expiration).",
    )


def judge_limits(limits: Mapping[str, float]) -> Iterator[Finding]:
    """Judge whether a broker with these limits can do what the daemon needs."""
    findings = list(_too_low(limits))
    size = limits.get("maximum_packet_bytes")
    yield from findings or [
        ok(
            LIMITS,
            f"packets up to {'any size' if size is None else f'{size:,.0f} bytes'}, QoS {limits['maximum_qos']:.0f}, "
            f"Receive Maximum {limits['receive_maximum_messages']:,.0f}",
        )
    ]


def _too_low(limits: Mapping[str, float]) -> Iterator[Finding]:
    size = limits.get("maximum_packet_bytes")
    if size is not None and size < SMALLEST_PACKET_BYTES:
        yield warning(
            LIMITS,
            f"the broker accepts no packet above {size:,.0f} bytes, but a batch of many people is larger",
            f"Raise its Maximum Packet Size to {SMALLEST_PACKET_BYTES:,} at least (Mosquitto: max_packet_size).",
        )
    if limits["maximum_qos"] < 1:
        yield problem(
            LIMITS, "the broker has no QoS 1: it would drop batches that the daemon has not stored", _ALLOW_QOS_1
        )
    if not limits["retain_available"]:
        yield problem(
            LIMITS,
            "the broker allows no retained messages: it refuses clients whose will is one, like the daemon and devices",
            _ALLOW_RETAINED,
        )
