"""Whether a daemon runs here, and what it says of itself. It is asked, and never disturbed."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from emotion_admin.doctor.finding import Finding, ok, problem, warning
from shared.database import sqlite_path
from shared.settings import Settings

SUBJECT = "daemon"
WRITES = "database writes"
LONGEST_TURN_SECONDS = 60.0
"""Its loop turns at least every few seconds, also while broker or database are away."""

_PATIENCE_SECONDS = 5.0

_WRITE_ADVICE = {
    "locked": "Another program holds the write lock: "
    "close it (an open sqlite3 shell with a transaction, a copy that runs). The daemon goes on by itself.",
    "full": "Make room on the database's disk. The daemon goes on by itself.",
    "unreadable": "See the lines on the database's files below, and the daemon's log.",
    "unreachable": "Start the database server, or set EMOTION_DATABASE_URL right. The daemon goes on by itself.",
    "other": "The daemon's log has the reason.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What is known of the daemon. `holds_lock` and `answers` are None where that cannot be told.

    `word` is what it answered on /readyz; `metrics` are its series that have at most one label, by name, with the
    label's value behind a colon.
    """

    holds_lock: bool | None = None
    answers: bool | None = None
    ready: bool = False
    word: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def here(self) -> bool | None:
        """Whether a daemon runs; None where that cannot be told."""
        if self.holds_lock or self.answers:
            return True
        return False if self.holds_lock is False else self.answers

    @property
    def subscribed(self) -> bool | None:
        """Whether the broker has confirmed the daemon's subscription; None where it has not told that."""
        told = self.metrics.get("emotion_broker_connected")
        return None if told is None else bool(told)

    @property
    def has_tables(self) -> bool:
        """Whether it tells that its database is open, with all tables in it."""
        return self.ready or self.subscribed is not None

    @property
    def may_hear_devices(self) -> bool:
        """False where no daemon runs, or the one that does says that it is not subscribed."""
        return self.here is not False and self.subscribed is not False


def ask(settings: Settings) -> Running:
    """Look for the daemon of these settings."""
    path = sqlite_path(settings.database_url)
    holds_lock = None if path is None else lock_is_held(Path(os.path.realpath(path)))
    if settings.daemon_http_address is None:
        return Running(holds_lock=holds_lock)
    host, port = settings.daemon_http_address
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        status, word = _get(host, port, "/readyz")
    except ConnectionRefusedError:
        return Running(holds_lock=holds_lock, answers=False, word="nothing listens there")
    except (OSError, HTTPException) as error:
        return Running(holds_lock=holds_lock, answers=None, word=str(error) or type(error).__name__)
    try:
        metrics = parse_metrics(_get(host, port, "/metrics")[1])
    except (OSError, HTTPException, ValueError):
        metrics = {}
    return Running(holds_lock=holds_lock, answers=True, ready=status == 200, word=word, metrics=metrics)


def lock_is_held(path: Path) -> bool | None:
    """Whether a daemon holds `<path>.lock`; None where this user may not look.

    It takes a shared lock for a moment, for which a daemon that starts just then waits (`only_one`).
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
    """Prometheus' text format -> values; see Running. Raises ValueError."""
    return {
        ":".join((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if len(sample.labels) < 2
    }


def judge(running: Running, settings: Settings) -> Iterator[Finding]:
    """Whether it runs, and does its work."""
    address = "" if settings.daemon_http_address is None else _url(*settings.daemon_http_address)
    if running.here is None:
        advice = "Set EMOTION_DAEMON_HTTP_ADDRESS for daemon and doctor alike"
        if sqlite_path(settings.database_url) is not None:  # whose lock only some may look at
            advice += ", or run doctor as the daemon's user"
        found = f"cannot tell whether one runs here{f': {running.word}' if running.word else ''}"
        yield warning(SUBJECT, found, f"{advice}.")
    elif not running.here:
        yield warning(SUBJECT, "none runs here", "If it should: start it. Its log says why it ended.")
    elif not running.answers and address:
        yield problem(
            SUBJECT,
            f"one holds the database, but does not answer at {address}/readyz: {running.word}",
            "If it started only just now, ask again. "
            "Else compare its EMOTION_DAEMON_HTTP_ADDRESS with this one, "
            "see its log, and start it again if that has stopped.",
        )
    elif running.answers and running.holds_lock is False:
        yield problem(
            SUBJECT,
            f"one answers at {address}, but does not hold this database",
            "EMOTION_DATABASE_URL is another than the daemon's: use the same.",
        )
    elif running.answers:
        yield from _own_word(running)
    else:
        yield ok(
            SUBJECT, "one runs and holds the database; EMOTION_DAEMON_HTTP_ADDRESS is not set, so it was not asked more"
        )


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _own_word(running: Running) -> Iterator[Finding]:
    age = running.metrics.get("emotion_loop_age_seconds", 0.0)
    if age > LONGEST_TURN_SECONDS:
        yield problem(
            SUBJECT,
            f"its loop has stood still for {age:.0f} s: a commit hangs",
            "Is the disk or the database server alive? Then start the daemon again.",
        )
    elif running.ready:
        yield ok(SUBJECT, f"one runs and says: {running.word}")
    else:
        yield problem(SUBJECT, f"one runs and says: {running.word}", "See the lines below; it tries again by itself.")
    failing = [reason for reason in _WRITE_ADVICE if running.metrics.get(f"emotion_database_failing:{reason}")]
    for reason in failing:
        yield problem(WRITES, f"the daemon cannot commit: {reason}", _WRITE_ADVICE[reason])
    if not failing and "emotion_database_failing:other" in running.metrics:
        yield ok(WRITES, "the daemon's commits succeed")


def _get(host: str, port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection(host, port, timeout=_PATIENCE_SECONDS)  # which knows of no proxy
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read(2**24).decode("utf-8", "replace").strip()
    finally:
        connection.close()
