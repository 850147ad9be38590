"""Check the running daemon's connection to the broker, by its metrics. A login by doctor would end the connection."""

from collections.abc import Iterator

from emotion_admin.doctor import connack, mqtt_probe
from emotion_admin.doctor.connack import LOGIN, ProbeResult
from emotion_admin.doctor.daemon_status import DaemonStatus
from emotion_admin.doctor.finding import Finding, ok, problem
from emotion_daemon.monitoring.metrics import BROKER_LIMITS
from emotion_daemon.mqtt.subscriber import REFUSED, broker_limits
from shared.settings import Settings


def examine(daemon: DaemonStatus, settings: Settings, *, anonymous: ProbeResult) -> Iterator[Finding]:
    """Judge the daemon's connection. `anonymous` is the broker's answer to a client without a login."""
    if daemon.subscribed is None:
        yield ok(LOGIN, "not tried: it would end the running daemon. See the daemon's log for the broker's answer")
        yield _limits_unknown()
        return
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


def _reconnects(daemon: DaemonStatus) -> float:
    return daemon.metrics.get("emotion_broker_reconnects_total", 0)
