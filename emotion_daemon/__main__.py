"""The daemon's composition root: `python -m emotion_daemon`. Its commands are in commands.py.

Exit codes: 0 after a stop by signal, 1 for what went wrong while running or what doctor calls a problem, 2 for a
setting, an argument or a standard output that cannot work.
"""

import argparse
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import FrameType

from alembic.util import CommandError
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from emotion_daemon import commands
from emotion_daemon.database_file import DatabaseFileError, drop_index_of_a_cut_log, only_one
from emotion_daemon.heartbeat import Heartbeat
from emotion_daemon.ingest import Ingest, LeftWithBrokerError
from emotion_daemon.log_handler import DroppingHandler
from emotion_daemon.metrics import MOST_DEVICES, Metrics
from emotion_daemon.migrations import upgrade
from emotion_daemon.notices import Notices
from emotion_daemon.retention import Retention
from emotion_daemon.status_server import StatusServer
from emotion_daemon.store import Store, is_temporary, reason, trouble_kind
from emotion_daemon.subscriber import SessionTakenOverError, Subscriber
from emotion_daemon.totals import leave_only_totals
from emotion_daemon.trouble import Trouble
from shared.batch import Topics
from shared.database import sqlite_path, writer_engine
from shared.printing import OutputError
from shared.settings import Settings, SettingsError

log = logging.getLogger("emotion_daemon")

_RETRY_SECONDS = 2.0


def main(arguments: list[str] | None = None) -> int:
    """Read arguments and settings, do what they say, and return the exit code."""
    options = commands.parse(arguments)
    if not commands.read_person(options):
        return 2
    try:
        settings = Settings.from_environ(os.environ)
        if options.command == "doctor":
            return commands.run_doctor(settings, options)
        path = sqlite_path(settings.database_url)
        if path is not None:
            _check_place(path, writing=not commands.only_reads(options))
    except (SettingsError, OutputError) as error:
        print(f"emotion_daemon: {error}", file=sys.stderr)
        return 2
    _configure_logging(settings)
    if options.command is not None:
        if path is not None and not path.exists():  # a writer would make an empty one
            return commands.cannot_use(settings, "there is no such file")
        run: Callable[[Settings, argparse.Namespace], int] = options.run
        try:
            return run(settings, options)
        except OutputError as error:
            print(f"emotion_daemon: {error}", file=sys.stderr)
            return 2
    engine = writer_engine(settings.database_url, echo=settings.sql_echo)
    stop = Stop()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        with _alone(settings), Heartbeat(os.environ) as heartbeat:
            metrics = Metrics(heartbeat, database=path)
            with _status_server(settings, heartbeat, metrics):
                if not _upgrade(engine, settings, stop, heartbeat, metrics):
                    return 0
                return _run(engine, settings, stop, heartbeat, metrics)
    except SettingsError as error:
        print(f"emotion_daemon: {error}", file=sys.stderr)
        return 2
    except (DatabaseFileError, DatabaseUnusableError, SessionTakenOverError) as error:
        log.error("%s; leaving", error)
        return 1
    finally:
        engine.dispose()


class DatabaseUnusableError(Exception):
    """Raised when the schema cannot be brought up to date, however often one tries."""


class Stop:
    """Whether a signal asked us to stop. The second one does not wait for the group that is under way."""

    def __init__(self) -> None:
        self.requested = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            os._exit(128 + number)
        self.requested = True


def _check_place(database: Path, *, writing: bool) -> None:
    """The daemon creates its file, but not the folder: a missing one is a volume that was not mounted.

    Raises SettingsError.
    """
    name, folder = "EMOTION_DATABASE_URL", os.path.dirname(os.path.realpath(database))
    try:
        os.stat(database)
    except FileNotFoundError:
        if not os.path.isdir(folder):
            raise SettingsError(name, f"names a file in {folder}, but there is no such folder: create it") from None
    except OSError as error:
        raise SettingsError(name, f"names {str(database)!r}, but that cannot be used: {error.strerror}") from error
    if writing and not os.access(folder, os.W_OK | os.X_OK):
        raise SettingsError(name, f"names a file in {folder}, but this user may not write there")


def _run(engine: Engine, settings: Settings, stop: Stop, heartbeat: Heartbeat, metrics: Metrics) -> int:
    topics = Topics(settings.mqtt_topic_prefix)
    subscriber = Subscriber(
        host=settings.mqtt_host,
        port=settings.mqtt_port,
        client_id=settings.mqtt_client_id,
        topics=topics,
        username=settings.mqtt_username,
        password=settings.mqtt_password,
        tls_ca=settings.mqtt_tls_ca,
        heartbeat=heartbeat,
    )
    store = Store(engine, totals_only=settings.totals_only)
    notices = Notices(now=time.monotonic())
    ingest = Ingest(
        source=subscriber,
        store=store,
        topics=topics,
        notices=notices,
        own_id=settings.mqtt_client_id,
        heartbeat=heartbeat,
        metrics=metrics,
        retention=Retention(
            store,
            notices=notices,
            metrics=metrics,
            people_days=settings.people_retention_days,
            history_days=settings.history_retention_days,
        ),
        stopping=lambda: stop.requested,
    )
    metrics.waiting = lambda: subscriber.waiting
    _recall_devices(store, metrics)
    # What was imported stays for good: looking through it for garbage stopped the loop for 40 ms now and then.
    gc.freeze()
    heartbeat.ready()
    try:
        ingest.run()
    except LeftWithBrokerError as error:
        log.warning("%s", error)
    except DBAPIError as error:
        raise DatabaseUnusableError(f"the database cannot be used: {reason(error)}") from error
    subscriber.close()
    log.info("stopped")
    return 0


def _alone(settings: Settings) -> AbstractContextManager[None]:
    """SQLite has one daemon; on PostgreSQL several may write, each with its own client id."""
    path = sqlite_path(settings.database_url)
    return nullcontext() if path is None else only_one(path.resolve())  # one lock, whichever link leads to it


def _status_server(
    settings: Settings, heartbeat: Heartbeat, metrics: Metrics
) -> "AbstractContextManager[StatusServer | None]":
    """Where a setting asks for it. Raises SettingsError."""
    if settings.metrics_address is None:
        return nullcontext()
    try:
        return StatusServer(settings.metrics_address, heartbeat, metrics.registry)
    except OSError as error:
        host, port = settings.metrics_address
        raise SettingsError(
            "EMOTION_METRICS_ADDRESS", f"is {host}:{port}, but nothing can be answered there: {error.strerror}"
        ) from error


def _recall_devices(store: Store, metrics: Metrics) -> None:
    """When each device was heard before this start: one that is silent since then is silent, too."""
    try:
        metrics.heard_before(store.heard(most=MOST_DEVICES))
    except DBAPIError as error:
        log.warning("cannot read when devices were heard last, the metrics do not know it: %s", reason(error))


def _upgrade(engine: Engine, settings: Settings, stop: Stop, heartbeat: Heartbeat, metrics: Metrics) -> bool:
    """Bring the schema up to date, waiting for a database that does not answer yet; False if stopped meanwhile.

    Where only totals are to be stored, people who are stored already become totals.
    """
    trouble = Trouble(log, then=f"trying again every {_RETRY_SECONDS:.0f} s")
    while not stop.requested:
        try:
            upgrade(engine)
            if settings.totals_only:
                leave_only_totals(engine)
        except CommandError as error:
            raise DatabaseUnusableError(
                f"the database is from a newer version of this program ({error}): start that one"
            ) from error
        except DBAPIError as error:
            if not is_temporary(error):
                raise DatabaseUnusableError(f"the database cannot be used: {reason(error)}") from error
            why = f"the database does not answer: {reason(error)}"
            trouble.failed(why, now=time.monotonic())
            heartbeat.database(why)
            heartbeat.beat(now=time.monotonic())
            metrics.commit_failed(trouble_kind(error, engine))
            engine.dispose()
            path = sqlite_path(engine.url)
            if path is not None:
                drop_index_of_a_cut_log(path, error)
            time.sleep(_RETRY_SECONDS)
        else:
            if trouble.began is not None:
                log.warning("the database answers after %.1f s", trouble.over(now=time.monotonic()))
            metrics.database_answers()
            return True
    return False


def _configure_logging(settings: Settings) -> None:
    formatter = logging.Formatter("%(asctime)sZ %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = DroppingHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=settings.log_level, handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # a traceback where a rollback fails, too
    for sentence in settings.unknown:
        log.warning("%s", sentence)


if __name__ == "__main__":
    sys.exit(main())
