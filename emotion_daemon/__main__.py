"""The daemon's composition root: `python -m emotion_daemon`. What an operator runs by hand is in emotion_admin.

Exit codes: 0 after a stop by signal, 1 for a failure while running, 2 for a setting or an argument that cannot work.
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

from alembic.util import CommandError
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from emotion_daemon.ingest import Ingest, LeftWithBrokerError
from emotion_daemon.monitoring.event_log import Notices
from emotion_daemon.monitoring.heartbeat import Heartbeat
from emotion_daemon.monitoring.http import serving
from emotion_daemon.monitoring.log_handler import configure_logging
from emotion_daemon.monitoring.metrics import MOST_DEVICES, Metrics
from emotion_daemon.monitoring.outage import Trouble
from emotion_daemon.mqtt.subscriber import SessionTakenOverError, Subscriber
from emotion_daemon.retention import Retention
from emotion_daemon.storage.file_guard import DatabaseFileError, drop_index_of_a_cut_log, only_one
from emotion_daemon.storage.migrations import upgrade
from emotion_daemon.storage.store import Store, is_temporary, reason, trouble_kind
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
        description="Store the batches that devices publish. Settings come from EMOTION_… variables: see README.md. "
        "The operator's commands are those of python -m emotion_admin.",
    ).parse_args(arguments)
    try:
        settings = Settings.from_environ(os.environ)
        path = sqlite_path(settings.database_url)
        if path is not None:
            check_location(path, writing=True)
    except SettingsError as error:
        print(f"emotion_daemon: {error}", file=sys.stderr)
        return 2
    configure_logging(settings)
    engine = writer_engine(settings.database_url, echo=settings.sql_echo)
    stop = Stop()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        with _alone(settings), Heartbeat(os.environ) as heartbeat:
            metrics = Metrics(heartbeat, database=path)
            with serving(settings.daemon_http_address, heartbeat, metrics.registry):
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


if __name__ == "__main__":
    sys.exit(main())
