"""What a broker's answer to the daemon's CONNECT means. Pure; mqtt_probe gets the answer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from emotion_admin.doctor.finding import Finding, ok, problem, warning

LOGIN = "broker login"
SESSION = "broker session"
LIMITS = "broker limits"

CLASH_ADVICE = (
    "Find it in the broker's log and stop it: a second daemon, a program with the daemon's login, "
    "or doctor, run twice at once. Or give each its own login and EMOTION_MQTT_CLIENT_ID."
)

NO_ANSWER_ADVICE = (
    "Does this port speak MQTT, and without TLS? With TLS, set EMOTION_MQTT_TLS_CA; "
    "MQTT over WebSockets is another port. The broker's log has its side."
)

FOREVER = 0xFFFFFFFF
SMALLEST_PACKET_BYTES = 256 * 2**10

_ALLOW_QOS_1 = "Allow QoS 1 there (Mosquitto: max_qos)."
_ALLOW_RETAINED = "Allow retained messages there (Mosquitto: retain_available)."

_UNSUPPORTED_PROTOCOL, _INVALID_ID, _BAD_LOGIN, _NOT_AUTHORIZED, _BUSY = 0x84, 0x85, 0x86, 0x87, 0x89
_UNAVAILABLE, _BANNED = 0x88, 0x8A
_SESSION_TAKEN_OVER = 0x8E
_NO_RETAINED, _NO_QOS = 0x9A, 0x9B


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back on one connection.

    `reason_code` is the CONNACK's, None where none came: then `error` says why, where that is known. `lost` says that
    the broker ended an accepted connection before we did, with `lost_code` if it said why. A limit that the broker did
    not name is as MQTT 5 has it then.
    """

    reason_code: int | None = None
    reason: str = ""
    error: str = ""
    lost: bool = False
    lost_code: int | None = None
    session_present: bool = False
    session_expiry: int = FOREVER
    maximum_packet_size: int | None = None
    maximum_qos: int = 2
    retain_available: bool = True
    receive_maximum: int = 65_535
    server_keep_alive: int | None = None
    retained: bytes | None = None

    @property
    def let_in(self) -> bool:
        return self.reason_code is not None and self.reason_code < 0x80

    @property
    def wants_login(self) -> bool:
        """Whether the broker refused it for its login, or for having none."""
        return self.reason_code in (_BAD_LOGIN, _NOT_AUTHORIZED)


def judge(answer: Answer, *, client_id: str, username: str | None, keep_alive: int) -> Iterator[Finding]:
    """Everything that is to be said of the daemon's own login."""
    who = "without a login" if username is None else f"as {username}"
    if not answer.let_in:
        yield problem(LOGIN, f"{who}: {what_came(answer)}", advice(answer.reason_code, username))
        return
    yield ok(LOGIN, f"let in {who}")
    yield from _session(answer, client_id)
    yield from judge_limits(answer, keep_alive=keep_alive)


def judge_running(limits: Mapping[str, float], *, keep_alive: int) -> Iterator[Finding]:
    """What the running daemon's CONNACK said, by the names of `metrics.BROKER_LIMITS`."""
    named = {limit: int(value) for limit, value in limits.items()}
    answer = Answer(
        reason_code=0,
        session_expiry=named.get("session_expiry_seconds", FOREVER),
        maximum_packet_size=named.get("maximum_packet_bytes"),
        maximum_qos=named.get("maximum_qos", 2),
        retain_available=bool(named.get("retain_available", 1)),
        receive_maximum=named.get("receive_maximum_messages", 65_535),
        server_keep_alive=named.get("keepalive_seconds"),
    )
    if answer.session_expiry != FOREVER:
        yield _short_session(answer)
    yield from judge_limits(answer, keep_alive=keep_alive)


def what_came(answer: Answer) -> str:
    """Why nobody was let in."""
    if answer.reason_code is not None:
        return f"the broker refused it: {answer.reason}"
    return answer.error or "the broker ended the connection and did not answer"


def advice(code: int | None, username: str | None) -> str:
    """What to do where the broker refused the daemon's login with this code; None: there was no CONNACK."""
    if code is None:
        return NO_ANSWER_ADVICE
    if code == _UNSUPPORTED_PROTOCOL:
        return "The daemon needs MQTT 5: upgrade the broker (Mosquitto 1.6 or newer), or allow MQTT 5 there."
    if code == _INVALID_ID:
        return "The broker does not take this client id: see its rules for ids, and EMOTION_MQTT_CLIENT_ID."
    if code in (_BAD_LOGIN, _NOT_AUTHORIZED):
        if username is None:
            return "This broker wants a login: set EMOTION_MQTT_USERNAME and EMOTION_MQTT_PASSWORD (or ..._FILE)."
        return (
            "Name or password is wrong, or the broker has not read its logins since they changed: compare "
            "EMOTION_MQTT_USERNAME and EMOTION_MQTT_PASSWORD with its password file, then reload the broker."
        )
    if code == _BANNED:
        return "The broker has banned this client: lift that there."
    if code == _NO_QOS:
        return f"The daemon's last will and its subscription are of QoS 1. {_ALLOW_QOS_1}"
    if code == _NO_RETAINED:
        return f"The daemon's last will is a retained message, and so is each device's. {_ALLOW_RETAINED}"
    if code in (_UNAVAILABLE, _BUSY):
        return "Try again in a minute; see the broker's log and its limit of connections."
    return "See the broker's log."


def _session(answer: Answer, client_id: str) -> Iterator[Finding]:
    if answer.lost and answer.lost_code in (None, _SESSION_TAKEN_OVER):
        told = "another client connected" if answer.lost_code is not None else "the broker ended our connection"
        yield problem(
            SESSION,
            f"{told} within seconds: another client uses the daemon's client id {client_id!r}, or its login",
            CLASH_ADVICE,
        )
    elif answer.lost:
        yield problem(
            SESSION, f"the broker ended our connection: code 0x{answer.lost_code:02X}", "See the broker's log."
        )
    elif answer.session_expiry != FOREVER:
        yield _short_session(answer)
    else:
        yield ok(SESSION, "kept" if answer.session_present else "none yet: nothing waits for the daemon")


def _short_session(answer: Answer) -> Finding:
    return warning(
        SESSION,
        f"the broker ends the daemon's session {answer.session_expiry} s after a connection",
        "What waits for the daemon for longer is lost: let sessions last (Mosquitto: no persistent_client_expiration).",
    )


def judge_limits(answer: Answer, *, keep_alive: int) -> Iterator[Finding]:
    """Whether a broker that has let somebody in can do what the daemon needs; `keep_alive` in seconds."""
    fine = True
    size = answer.maximum_packet_size
    if size is not None and size < SMALLEST_PACKET_BYTES:
        fine = False
        yield warning(
            LIMITS,
            f"the broker takes no packet above {size:,} bytes, and a batch of many people is larger",
            f"Raise its Maximum Packet Size to {SMALLEST_PACKET_BYTES:,} at least (Mosquitto: max_packet_size).",
        )
    if answer.maximum_qos < 1:
        fine = False
        yield problem(
            LIMITS,
            "the broker has no QoS 1: it would forget batches that nobody has stored",
            _ALLOW_QOS_1,
        )
    if not answer.retain_available:
        fine = False
        yield problem(
            LIMITS,
            "the broker keeps no retained messages: it refuses the daemon, whose last will is one, and devices' too",
            _ALLOW_RETAINED,
        )
    if answer.server_keep_alive is not None and answer.server_keep_alive < keep_alive:
        fine = False
        yield warning(
            LIMITS,
            f"the broker wants to hear of the daemon every {answer.server_keep_alive} s, "
            "which a slow commit may exceed",
            f"Raise its keep alive to {keep_alive} s at least (Mosquitto: max_keepalive).",
        )
    if fine:
        yield ok(
            LIMITS,
            f"packets up to {'any size' if size is None else f'{size:,} bytes'}, QoS {answer.maximum_qos}, "
            f"Receive Maximum {answer.receive_maximum:,}",
        )
