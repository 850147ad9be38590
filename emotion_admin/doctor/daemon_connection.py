"""What the running daemon says of its connection to the broker. It is asked, and never pushed out by a login."""

import time
from collections.abc import Iterator

from emotion_admin.doctor import connack, mqtt_probe
from emotion_admin.doctor.connack import LOGIN
from emotion_admin.doctor.daemon_status import Running, ask
from emotion_admin.doctor.finding import Finding, ok, problem, warning
from emotion_daemon.monitoring.metrics import BROKER_LIMITS
from emotion_daemon.mqtt.subscriber import KEEPALIVE_SECONDS, REFUSED, SUSPICIOUS_LOSSES
from shared.settings import Settings

RECONNECT_SECONDS = 6.0
"""Within this a daemon that another client pushes out has come back: each of the two waits 3 s at most."""

MOST_RECONNECTS = 5
"""More than these since the daemon's start, and more than one in RARE_SECONDS on average, is no mere outage."""

RARE_SECONDS = 60.0


def examine(running: Running, settings: Settings, *, anonymous: connack.Answer) -> Iterator[Finding]:
    """All of it. Where the connection was lost before, the daemon is asked again a little later.

    `anonymous` is what the broker says to a client without a login.
    """
    if running.subscribed is None:
        yield ok(LOGIN, "not tried: it would end the running daemon, whose log says how it gets on with the broker")
        yield _no_limits()
        return
    lost = _reconnects(running)
    if lost or not running.subscribed:
        running = _ask_until_reconnected(running, settings)
    yield from judge_reconnects(running, before=lost, now=time.time(), client_id=settings.mqtt_client_id)
    yield _subscribed(running) if running.subscribed else _not_subscribed(running, settings.mqtt_username)
    metrics = {name.removeprefix("emotion_broker_"): value for name, value in running.metrics.items()}
    limits = {name: metrics[name] for name in BROKER_LIMITS if name in metrics}
    if limits and (running.subscribed or not anonymous.let_in):  # else they may be those of before a restart
        yield from connack.judge_running(limits, keep_alive=KEEPALIVE_SECONDS)
    elif anonymous.let_in:
        yield from connack.judge_limits(anonymous, keep_alive=KEEPALIVE_SECONDS)
    else:
        yield _no_limits()


def _subscribed(running: Running) -> Finding:
    waiting = running.metrics.get("emotion_waiting_messages", 0)
    return ok(
        LOGIN,
        f"asked the running daemon instead: it is subscribed; reconnects since its start: {_reconnects(running):.0f}, "
        f"messages in hand: {waiting:.0f}",
    )


def _not_subscribed(running: Running, username: str | None) -> Finding:
    _, refused, reason = running.word.partition(REFUSED)
    if refused:
        return problem(
            LOGIN,
            f"asked the running daemon instead: the broker refuses it: {reason}",
            connack.advice(mqtt_probe.reason_code(reason), username),
        )
    return problem(
        LOGIN,
        "asked the running daemon instead: it is not connected",
        "Its log has the broker's reason. If there is none: stop the daemon, and run doctor again, which then logs in.",
    )


def _no_limits() -> Finding:
    return ok(connack.LIMITS, "not looked at while a daemon runs that does not tell them")


def judge_reconnects(running: Running, *, before: float, now: float, client_id: str) -> Iterator[Finding]:
    """Whether another client pushes the daemon out, who comes back; `before` is what it had counted a moment ago."""
    lost = _reconnects(running)
    age = now - running.metrics.get("emotion_start_timestamp_seconds", 0)
    often = age < lost * RARE_SECONDS
    who = f"another client may use the daemon's client id {client_id!r}, or its login"
    if lost > before:
        judged = problem if lost > SUSPICIOUS_LOSSES and often else warning
        found = f"the daemon was without the broker and came back just now, {lost:.0f} times since its start: {who}"
        yield judged(
            connack.SESSION,
            found,
            f"If broker or network were restarted just now, that is all. Else: {connack.CLASH_ADVICE}",
        )
    elif lost > MOST_RECONNECTS and often:
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
