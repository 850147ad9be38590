"""The daemon's composition root: `python -m emotion_daemon`, and `python -m emotion_daemon rejected`.

Exit codes: 0 after a stop by signal, 1 for what went wrong while running, 2 for a setting or an argument that
cannot work.
"""

import argparse
import gc
import logging
import os
import signal
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import FrameType

from alembic.util import CommandError
from sqlalchemy import Engine, make_url
from sqlalchemy.exc import DBAPIError

from emotion_daemon import rejected
from emotion_daemon.database_file import DatabaseFileError, drop_index_of_a_cut_log, only_one
from emotion_daemon.heartbeat import Heartbeat
from emotion_daemon.ingest import Ingest, LeftWithBrokerError
from emotion_daemon.log_handler import DroppingHandler
from emotion_daemon.migrations import upgrade
from emotion_daemon.notices import Notices
from emotion_daemon.retention import Retention
from emotion_daemon.store import Store, is_temporary, reason
from emotion_daemon.subscriber import SessionTakenOverError, Subscriber
from emotion_daemon.totals import leave_only_totals
from emotion_daemon.trouble import Trouble
from shared.batch import Topics
from shared.database import reader_engine, sqlite_path, writer_engine
from shared.settings import Settings, SettingsError

log = logging.getLogger("emotion_daemon")

_RETRY_SECONDS = 2.0


def main(arguments: list[str] | None = None) -> int:
    """Read arguments and settings, do what they say, and return the exit code."""
    options = _parse(arguments)
    try:
        settings = Settings.from_environ(os.environ)
        _check_folder("EMOTION_DATABASE_URL", sqlite_path(settings.database_url))
        if options.command is None:
            _check_folder("EMOTION_HEALTH_FILE", settings.health_file)
    except SettingsError as error:
        print(f"emotion_daemon: {error}", file=sys.stderr)
        return 2
    _configure_logging(settings)
    if options.command == "rejected":
        path = sqlite_path(settings.database_url)
        if path is not None and not path.exists():  # a writer would make an empty one
            return _cannot_read(settings, "there is no such file")
        return _replay(settings) if options.replay else _list(settings, options)
    engine = writer_engine(settings.database_url, echo=settings.sql_echo)
    stop = Stop()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        with _alone(settings), Heartbeat(settings.health_file, os.environ) as heartbeat:
            return _run(engine, settings, stop, heartbeat) if _upgrade(engine, settings, stop, heartbeat) else 0
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


def _run(engine: Engine, settings: Settings, stop: Stop, heartbeat: Heartbeat) -> int:
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
        retention=_retention(store, settings, notices),
        stopping=lambda: stop.requested,
    )
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


def _retention(store: Store, settings: Settings, notices: Notices) -> Retention | None:
    """None where everything is kept for ever."""
    people_days, history_days = settings.people_retention_days, settings.history_retention_days
    if people_days is None and history_days is None:
        return None
    return Retention(store, notices=notices, people_days=people_days, history_days=history_days)


def _alone(settings: Settings) -> AbstractContextManager[None]:
    """SQLite has one daemon; on PostgreSQL several may write, each with its own client id."""
    path = sqlite_path(settings.database_url)
    return nullcontext() if path is None else only_one(path.resolve())  # one lock, whichever link leads to it


def _upgrade(engine: Engine, settings: Settings, stop: Stop, heartbeat: Heartbeat) -> bool:
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
            engine.dispose()
            path = sqlite_path(engine.url)
            if path is not None:
                drop_index_of_a_cut_log(path, error)
            time.sleep(_RETRY_SECONDS)
        else:
            if trouble.began is not None:
                log.warning("the database answers after %.1f s", trouble.over(now=time.monotonic()))
            return True
    return False


def _list(settings: Settings, options: argparse.Namespace) -> int:
    """Only reads: it works beside a daemon, and beside a database that somebody has locked."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # so that `| head` ends it in silence
    engine = reader_engine(settings.database_url, echo=settings.sql_echo)
    try:
        rows = rejected.newest(engine, limit=options.limit)
    except DBAPIError as error:
        return _cannot_read(settings, reason(error))
    finally:
        engine.dispose()
    for row in rows:
        print(f"{row.id}  {row.received_at:%Y-%m-%dT%H:%M:%SZ}  {row.topic}  {row.payload_size} bytes")
        print(f"    {row.reason}")
        print(f"    {row.payload[: options.bytes]!r}" if row.payload or not row.payload_size else "    not kept")
    if not rows:
        print(f"no rejected messages in {_shown(settings)}")
    return 0


def _replay(settings: Settings) -> int:
    engine = writer_engine(settings.database_url, echo=settings.sql_echo)
    stored = left = 0
    try:
        for replayed in rejected.replay(engine, Topics(settings.mqtt_topic_prefix), totals_only=settings.totals_only):
            if replayed.reason is None:
                stored += 1
                print(f"{replayed.id}  {replayed.topic}  stored")
            else:
                left += 1
                print(f"{replayed.id}  {replayed.topic}  still rejected: {replayed.reason}")
    except DBAPIError as error:
        return _cannot_read(settings, reason(error))
    finally:
        engine.dispose()
    print(f"{stored} stored, {left} still rejected")
    return 0


def _cannot_read(settings: Settings, reason: str) -> int:
    print(
        f"emotion_daemon: cannot read {_shown(settings)}: {reason}; "
        "EMOTION_DATABASE_URL has to be the running daemon's",
        file=sys.stderr,
    )
    return 1


def _shown(settings: Settings) -> str:
    return make_url(settings.database_url).render_as_string(hide_password=True)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m emotion_daemon",
        description="Store the batches that devices publish; this is what it does without a command. "
        "Settings come from EMOTION_… variables; see README.md.",
    )
    commands = parser.add_subparsers(dest="command", metavar="[rejected]")
    command = commands.add_parser(
        "rejected", help="list the messages that were no valid batch, newest first, or replay them"
    )
    command.add_argument("--replay", action="store_true", help="decode them all again and store what is valid now")
    command.add_argument("--limit", type=_count, default=20, help="how many to list (default 20)")
    command.add_argument("--bytes", type=_count, default=120, help="how much of each payload to show (default 120)")
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 999999999")
    return int(text)


def _check_folder(name: str, path: Path | None) -> None:
    """The daemon creates its files, but not the folders: a missing one is a volume that was not mounted."""
    if path is None:
        return
    folder = path.absolute().parent
    if not folder.is_dir():
        raise SettingsError(name, f"names a file in {folder}, but there is no such folder: create it")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SettingsError(name, f"names a file in {folder}, but this user may not write there")
    if path.is_dir():
        raise SettingsError(name, f"names {str(path)!r}, which is a folder: name a file in it")


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
