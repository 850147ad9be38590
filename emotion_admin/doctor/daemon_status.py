"""Find out if a daemon runs here, and query its state."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from emotion_admin import health
from emotion_admin.addresses import daemon_url
from emotion_admin.doctor.finding import Finding, ok, problem, warning
from emotion_daemon.monitoring.heartbeat import HANGING_SECONDS
from emotion_daemon.monitoring.outage import OutageKind
from shared.database import sqlite_path
from shared.settings import Settings

SUBJECT = "daemon"
WRITES = "database writes"
LONGEST_TURN_SECONDS = 60.0
"""The daemon's loop turns every few seconds, even during an outage of broker or database."""

_WRITE_ADVICE: Mapping[OutageKind, str] = {
    "locked": "Close the program that holds the write lock, like an sqlite3 shell with an open transaction or a copy. "
    "The daemon then continues by itself.",
    "full": "Make room on the database's disk. The daemon then continues by itself.",
    "unreadable": "See the lines about the database's files below, and the daemon's log.",
    "unreachable": "Start the database server, or correct EMOTION_DATABASE_URL. The daemon retries by itself.",
    "other": "See the daemon's log for the reason.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStatus:
    """The state of the daemon as far as doctor knows it. `holds_lock` and `answers` are None if doctor cannot tell.

    `answer` is the line of /readyz, or why there is none. `metrics` are the series with at most one label, by name;
    a label's value follows after a colon.
    """

    holds_lock: bool | None = None
    answers: bool | None = None
    ready: bool = False
    answer: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def runs(self) -> bool | None:
        """Return True if a daemon runs; None if doctor cannot tell."""
        if self.holds_lock or self.answers:
            return True
        return False if self.holds_lock is False else self.answers

    @property
    def subscribed(self) -> bool | None:
        """Return True if the broker has confirmed the daemon's subscription; None if the daemon does not tell."""
        told = self.metrics.get("emotion_broker_connected")
        return None if told is None else bool(told)

    @property
    def has_tables(self) -> bool:
        """Return True if the daemon tells that it has opened a database with all tables."""
        return self.ready or self.subscribed is not None

    @property
    def may_hear_devices(self) -> bool:
        """False if no daemon runs, or the running one says that it is not subscribed."""
        return self.runs is not False and self.subscribed is not False


def query(settings: Settings) -> DaemonStatus:
    """Find the daemon of these settings, and query /readyz and /metrics."""
    path = sqlite_path(settings.database_url)
    holds_lock = None if path is None else lock_is_held(Path(os.path.realpath(path)))
    url = daemon_url(settings)
    if url is None:
        return DaemonStatus(holds_lock=holds_lock)
    try:
        status, answer = health.get(f"{url}/readyz")
    except ConnectionRefusedError:
        return DaemonStatus(holds_lock=holds_lock, answers=False, answer="nothing listens there")
    except (OSError, HTTPException) as error:
        return DaemonStatus(holds_lock=holds_lock, answer=str(error) or type(error).__name__)
    try:
        metrics = parse_metrics(health.get(f"{url}/metrics")[1])
    except (OSError, HTTPException, ValueError):
        metrics = {}
    return DaemonStatus(holds_lock=holds_lock, answers=True, ready=status == 200, answer=answer, metrics=metrics)


def lock_is_held(path: Path) -> bool | None:
    """Return whether a daemon holds `<path>.lock`; None if this user may not open it.

    A daemon that starts at this moment waits for doctor's shared lock (`only_one`).
    """
    try:
        lock = path.with_name(path.name + ".lock").open("rb")
    except FileNotFoundError:
        return False
    except OSError:
        return None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return None
        return False


def parse_metrics(text: str) -> dict[str, float]:
    """Parse Prometheus' text format into `DaemonStatus.metrics`. Raises ValueError."""
    return {
        ":".join((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if len(sample.labels) < 2
    }


def judge(daemon: DaemonStatus, settings: Settings) -> Iterator[Finding]:
    """Judge whether the daemon runs, and does its work."""
    url = daemon_url(settings)
    if daemon.runs is None:
        advice = "Set EMOTION_DAEMON_HTTP_ADDRESS for both daemon and doctor"
        if sqlite_path(settings.database_url) is not None:  # only some users may open its lock file
            advice += ", or run doctor as the daemon's user"
        why = f": {daemon.answer}" if daemon.answer else ""
        yield warning(SUBJECT, f"cannot tell whether a daemon runs here{why}", f"{advice}.")
    elif not daemon.runs:
        yield warning(SUBJECT, "no daemon runs here", "If one should run, start it. Its log says why it ended.")
    elif daemon.answers and daemon.holds_lock is False:
        yield problem(
            SUBJECT,
            f"a daemon answers at {url}, but does not hold this database",
            "Use the daemon's EMOTION_DATABASE_URL.",
        )
    elif daemon.answers:
        yield from _judge_answer(daemon)
    elif url:
        yield problem(
            SUBJECT,
            f"a daemon holds the database, but does not answer at {url}/readyz: {daemon.answer}",
            "If it has just started, run doctor again. Otherwise compare its EMOTION_DAEMON_HTTP_ADDRESS with "
            "doctor's, and see its log. Restart it if it hangs.",
        )
    else:
        yield ok(SUBJECT, "a daemon runs and holds the database; set EMOTION_DAEMON_HTTP_ADDRESS to learn more")


def _judge_answer(daemon: DaemonStatus) -> Iterator[Finding]:
    age = daemon.metrics.get("emotion_loop_age_seconds", 0.0)
    if age > LONGEST_TURN_SECONDS:
        yield problem(
            SUBJECT,
            f"the daemon's loop has not turned for {age:.0f} s: it hangs",
            "If the next line is about a commit, follow that. Otherwise see its log, and restart the daemon.",
        )
    elif daemon.ready:
        yield ok(SUBJECT, f"a daemon runs and says: {daemon.answer}")
    else:
        yield problem(SUBJECT, f"a daemon runs and says: {daemon.answer}", "See the lines below. The daemon retries.")
    failing = [kind for kind in _WRITE_ADVICE if daemon.metrics.get(f"emotion_database_failing:{kind}")]
    waited = daemon.metrics.get("emotion_database_wait_seconds", 0.0)
    if waited >= HANGING_SECONDS:
        yield problem(
            WRITES,
            f"the daemon has waited {waited:.0f} s for one commit or query",
            "See docs/runbooks/EmotionDatabaseHangs.md. Do not cancel a commit that waits for a standby.",
        )
        return
    for kind in failing:
        yield problem(WRITES, f"the daemon cannot commit: {kind}", _WRITE_ADVICE[kind])
    if not failing and "emotion_database_failing:other" in daemon.metrics:
        yield ok(WRITES, "the daemon's commits succeed")
