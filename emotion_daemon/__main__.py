"""The daemon's composition root: `python -m emotion_daemon`. The operator's commands are in emotion_admin.

Exit codes: 0 after a stop by signal, 1 after a failure while running, 2 for a setting or an argument that cannot work.
"""

import argparse
import gc
import logging
import os
import signal
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from types import FrameType

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from emotion_daemon.ingest import Ingest, LeftWithBrokerError
from emotion_daemon.monitoring.alerting import alerting
from emotion_daemon.monitoring.device_rates import Rate
from emotion_daemon.monitoring.heartbeat import Heartbeat
from emotion_daemon.monitoring.http import serving
from emotion_daemon.monitoring.log_handler import configure_logging
from emotion_daemon.monitoring.metrics import MOST_DEVICES, Metrics
from emotion_daemon.monitoring.report import Report
from emotion_daemon.mqtt.subscriber import SessionTakenOverError, Subscriber
from emotion_daemon.retention import Retention
from emotion_daemon.storage.errors import (
    DatabaseDamagedError,
    DatabaseInUseError,
    DatabaseReplacedError,
    LockFileError,
    is_temporary,
    outage_kind,
    reason,
)
from emotion_daemon.storage.file_lock import only_one
from emotion_daemon.storage.migrations import NewerSchemaError, UnfinishedCopyError, upgrade
from emotion_daemon.storage.sound_check import SoundCheck
from emotion_daemon.storage.store import Store
from emotion_daemon.storage.totals_migration import leave_only_totals
from shared.batch import Topics
from shared.database import check_location, sqlite_path, writer_engine
from shared.settings import Settings, SettingsError

log = logging.getLogger("emotion_daemon")

_RETRY_SECONDS = 2.0


def main(arguments: list[str] | None = None) -> int:
    """Run the daemon until a signal stops it, and return the exit code."""
    argparse.ArgumentParser(
        prog="python -m emotion_daemon",
        description="Store the batches that devices publish. Settings come from EMOTION_… variables: see "
        "docs/reference/configuration.md. The operator's commands are in scripts/.",
    ).parse_args(arguments)
    try:
        settings = Settings.from_environ(os.environ)
        path = sqlite_path(settings.database_url)
        if path is not None:
            check_location(path, writing=True)
        configure_logging(settings)
        stop = Stop()
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        with _alone(settings), Heartbeat(os.environ) as heartbeat:
            limit = Rate(settings.device_messages_per_second, settings.device_bytes_per_second)
            report = Report(heartbeat, Metrics(heartbeat, database=path), device_limit=limit)
            with (
                serving(settings.daemon_http_address, heartbeat, report.metrics.registry),
                alerting(settings, heartbeat, report.metrics),
            ):
                _run(settings, report, stop)
    except SettingsError as error:
        print(f"emotion_daemon: {error}", file=sys.stderr)
        return 2
    except tuple(HEADINGS) as error:
        log.error("%s; exiting. See docs/troubleshooting.md#%s", error, HEADINGS[type(error)])
        return 1
    return 0


class DatabaseUnusableError(Exception):
    """Raised when the database refuses an operation for a reason that a retry does not mend."""

    def __init__(self, error: DBAPIError) -> None:
        super().__init__(f"the database cannot be used: {reason(error)}")


HEADINGS: dict[type[Exception], str] = {
    DatabaseInUseError: "another-daemon-is-running-on",
    LockFileError: "let-the-daemons-user-write-this-file",
    DatabaseReplacedError: "was-deleted-or-replaced-while-the-daemon-wrote-it",
    DatabaseDamagedError: "is-damaged",
    DatabaseUnusableError: "the-database-cannot-be-used",
    NewerSchemaError: "the-database-is-from-a-newer-version-of-this-program",
    UnfinishedCopyError: "the-database-is-an-unfinished-copy-of",
    SessionTakenOverError: "another-client-took-over-the-session-or-does-another-client-use-the-client-id",
}
"""The errors that end the daemon, and the heading about each in docs/troubleshooting.md."""


class Stop:
    """Remember that a signal asked the daemon to stop. A second signal ends the process in the middle of the group."""

    def __init__(self) -> None:
        self.requested = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            os._exit(128 + number)
        self.requested = True


def _alone(settings: Settings) -> AbstractContextManager[None]:
    """Hold the lock of an SQLite file: it has one daemon. PostgreSQL may have several, each with its own client id."""
    path = sqlite_path(settings.database_url)
    return nullcontext() if path is None else only_one(path.resolve())  # links to the same file share one lock


def _run(settings: Settings, report: Report, stop: Stop) -> None:
    """Open the database, then receive, decode, fold, commit and acknowledge until stopped."""
    engine = writer_engine(settings.database_url, echo=settings.sql_echo)
    try:
        store = _open(engine, settings, report, stop)
        if store is not None:
            _ingest(settings, store, report, stop)
    except DBAPIError as error:
        raise DatabaseUnusableError(error) from error
    finally:
        engine.dispose()


def _ingest(settings: Settings, store: Store, report: Report, stop: Stop) -> None:
    topics = Topics(settings.mqtt_topic_prefix)
    subscriber = Subscriber(
        host=settings.mqtt_host,
        port=settings.mqtt_port,
        client_id=settings.mqtt_client_id,
        topics=topics,
        username=settings.mqtt_username,
        password=settings.mqtt_password,
        tls_ca=settings.mqtt_tls_ca,
        heartbeat=report.heartbeat,
    )
    report.metrics.waiting = lambda: subscriber.waiting
    retention = Retention(
        store,
        report=report,
        people_days=settings.people_retention_days,
        history_days=settings.history_retention_days,
    )
    ingest = Ingest(
        source=subscriber,
        store=store,
        topics=topics,
        report=report,
        own_id=settings.mqtt_client_id,
        retention=retention,
        stopping=lambda: stop.requested,
    )
    gc.freeze()  # modules live as long as the process; collecting them stopped the loop for 40 ms now and then
    report.heartbeat.ready()
    try:
        ingest.run()
    except LeftWithBrokerError as error:
        log.warning("%s", error)
    subscriber.close()
    log.info("stopped")


def _open(engine: Engine, settings: Settings, report: Report, stop: Stop) -> Store | None:
    """Bring the schema up to date, and in totals-only mode turn stored people into totals. None if stopped meanwhile.

    It waits for a database that does not answer yet.
    """
    check = SoundCheck(settings.database_url)
    while not stop.requested:
        try:
            if not check.allows_start():
                report.heartbeat.beat(now=time.monotonic())
                continue
            upgrade(engine)
            if settings.totals_only:
                leave_only_totals(engine)
            store = Store(engine, daemon_id=settings.mqtt_client_id, check=check, totals_only=settings.totals_only)
            report.metrics.heard_before(store.heard(most=MOST_DEVICES))
        except DBAPIError as error:
            if not is_temporary(error):
                raise
            report.commit_failed(f"the database does not answer: {reason(error)}", outage_kind(error, engine))
            report.heartbeat.beat(now=time.monotonic())
            engine.dispose()
            time.sleep(_RETRY_SECONDS)
        else:
            report.database_answers()
            return store
    return None


if __name__ == "__main__":
    sys.exit(main())
