"""What the running daemon says about its connection to the broker. A login by doctor would end that connection."""

import time
from collections.abc import Iterator

from emotion_admin.doctor import connack, mqtt_probe
from emotion_admin.doctor.connack import LOGIN, ProbeResult
from emotion_admin.doctor.daemon_status import DaemonStatus, query
from emotion_admin.doctor.finding import Finding, ok, problem, warning
from emotion_daemon.monitoring.metrics import BROKER_LIMITS
from emotion_daemon.mqtt.subscriber import REFUSED, SUSPICIOUS_LOSSES, broker_limits
from shared.settings import Settings

RECONNECT_SECONDS = 6.0
"""How long doctor waits for a daemon that another client pushed out: each of the two waits 3 s at most."""

MOST_RECONNECTS = 5
"""More than these, and more than one in RARE_SECONDS on average, are no ordinary outage."""

RARE_SECONDS = 60.0


def examine(daemon: DaemonStatus, settings: Settings, *, anonymous: ProbeResult) -> Iterator[Finding]:
    """Judge the daemon's connection, and query it again a little later if it was ever lost.

    `anonymous` is the broker's answer to a client without a login.
    """
    if daemon.subscribed is None:
        yield ok(LOGIN, "not tried: it would end the running daemon. See the daemon's log for the broker's answer")
        yield _limits_unknown()
        return
    lost = _reconnects(daemon)
    if lost or not daemon.subscribed:
        daemon = _query_until_reconnected(daemon, settings)
    yield from judge_reconnects(daemon, before=lost, now=time.time(), client_id=settings.mqtt_client_id)
    yield _subscribed(daemon) if daemon.subscribed else _not_subscribed(daemon, settings.mqtt_username)
    metrics = {name.removeprefix("emotion_broker_"): value for name, value in daemon.metrics.items()}
    told = {name: metrics[name] for name in BROKER_LIMITS if name in metrics}
    if told and (daemon.subscribed or not anonymous.accepted):  # otherwise the broker may have restarted since
        yield from connack.judge_running({**broker_limits(None), **told})
    elif anonymous.accepted:
        yield from connack.judge_limits(anonymous.limits)
    else:
        yield _limits_unknown()


def _subscribed(daemon: DaemonStatus) -> Finding:
    waiting = daemon.metrics.get("emotion_waiting_messages", 0)
    return ok(
        LOGIN,
        f"the running daemon says: subscribed; reconnects since its start: {_reconnects(daemon):.0f}, "
        f"messages in hand: {waiting:.0f}",
    )


def _not_subscribed(daemon: DaemonStatus, username: str | None) -> Finding:
    _, refused, reason = daemon.answer.partition(REFUSED)
    if refused:
        return problem(
            LOGIN,
            f"the running daemon says: the broker refuses it: {reason}",
            connack.advice(mqtt_probe.reason_code(reason), username),
        )
    return problem(
        LOGIN,
        "the running daemon says: not connected",
        "See its log for the broker's reason. If it has none, stop the daemon and run doctor again: it then logs in.",
    )


def _limits_unknown() -> Finding:
    return ok(connack.LIMITS, "not checked: the running daemon does not tell them")


def judge_reconnects(daemon: DaemonStatus, *, before: float, now: float, client_id: str) -> Iterator[Finding]:
    """Judge whether another client pushes the daemon out. `before` is how many reconnects it told a moment ago."""
    lost = _reconnects(daemon)
    age = now - daemon.metrics.get("emotion_start_timestamp_seconds", 0)
    often = age < lost * RARE_SECONDS
    why = f"another client may use the daemon's client id {client_id!r}, or its login"
    if lost > before:
        judged = problem if lost > SUSPICIOUS_LOSSES and often else warning
        yield judged(
            connack.SESSION,
            f"the daemon lost the broker and reconnected just now, {lost:.0f} times since its start: {why}",
            f"If broker or network were restarted just now, do nothing. Otherwise: {connack.CLASH_ADVICE}",
        )
    elif lost > MOST_RECONNECTS and often:
        yield warning(
            connack.SESSION,
            f"the daemon has lost the broker every {age / lost:.0f} s since its start: {why}",
            f"{connack.CLASH_ADVICE} If there is none, check the network and the broker's log.",
        )


def _query_until_reconnected(daemon: DaemonStatus, settings: Settings) -> DaemonStatus:
    """Query the daemon until it has subscribed again, RECONNECT_SECONDS at most."""
    end = time.monotonic() + RECONNECT_SECONDS
    newest = daemon
    while _reconnects(newest) <= _reconnects(daemon) and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.25))
        again = query(settings)
        newest = again if again.metrics else newest
    return newest


def _reconnects(daemon: DaemonStatus) -> float:
    return daemon.metrics.get("emotion_broker_reconnects_total", 0)
