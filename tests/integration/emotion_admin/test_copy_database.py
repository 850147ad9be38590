"""`python -m emotion_admin copy-database`: both ways, interrupted and continued, and the databases that it refuses."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, inspect, select, text

from emotion_admin import copy_database as copying
from emotion_admin.__main__ import main
from emotion_admin.errors import OperatorError
from emotion_daemon.rules.fold import fold
from emotion_daemon.storage.file_lock import only_one
from emotion_daemon.storage.migrations import UNFINISHED_COPY
from emotion_daemon.storage.store import Store
from shared.batch import EMOTIONS, Batch, Cumulative
from shared.database import reader_engine, sqlite_path, writer_engine
from shared.schema import (
    device,
    device_state,
    device_total,
    emotion_hour,
    emotion_minute,
    forgotten_person,
    metadata,
    person_emotion,
    rejected_message,
)
from tests.databases import disposing, migrated, reading
from tests.postgresql import PostgreSQL
from tests.processes import ADMIN, DAEMON, ROOT, without_settings
from tests.waiting import free_port, wait_until

NOON = datetime(2025, 11, 14, 12, tzinfo=UTC)
DEVICES = ["jetson_10", "jetson_2", "Jetson-1", "a.b", "a:b", "Z", "z", "_"]
"""Ids that a language's rules sort in another order than their bytes."""


DaemonOn = Callable[[str], None]


@pytest.fixture(params=["to PostgreSQL", "to SQLite"])
def urls(request: pytest.FixtureRequest, postgresql: PostgreSQL, sqlite_url: str) -> tuple[str, str]:
    """The URLs of a source and an empty target."""
    pair = sqlite_url, postgresql.new_database()
    return pair if request.param == "to PostgreSQL" else pair[::-1]


def fill(engine: Engine) -> None:
    """Store a row of every kind, with values that a copy could spoil."""
    seconds = {f"time_{emotion}": value for emotion, value in zip(EMOTIONS, (0.1, 1e308, 0, 5e-324), strict=True)}
    times = [NOON + timedelta(microseconds=number) for number in range(2)]
    keys = [{"device_id": device_id} for device_id in DEVICES]
    people = [key | {"person_id": name} for key in keys for name in ("ä\\N\t☃", "B")]
    state = {"people": 3, "clock_skew": -0.25, "clock_offset": 1e9, "status": "online", "revision": 2**53 + 1}
    letter = {"topic": "t\n", "reason": "\\.", "payload": b"\0\xff\\", "payload_size": 3, "received_at": NOON}
    tombstone = {"salt": b"\0" * 16, "forgotten_at": NOON, "until": NOON}
    rows: dict[Any, list[dict[str, Any]]] = {
        person_emotion: [who | seconds | {"last_seen": NOON, "active_at": None} for who in people],
        device: [key | {"device_name": None, "updated_at": NOON} for key in keys],
        device_state: [key | seconds | state | {"received_at": NOON, "status_at": None} for key in keys],
        emotion_minute: [key | seconds | {"minute": at, "most_people": 2} for key in keys for at in times],
        emotion_hour: [key | seconds | {"hour": at, "most_people": 2} for key in keys for at in times],
        rejected_message: [letter] * 3,
        forgotten_person: [key | tombstone | {"digest": each} for key in keys for each in (b"\x80", b"\x7f")],
        device_total: [key | seconds for key in keys],
    }
    assert set(rows) == set(metadata.tables.values()), "a new table needs rows here"
    with engine.begin() as connection:
        for table, values in rows.items():
            connection.execute(insert(table), values)


@pytest.fixture
def filled(urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.setenv("EMOTION_DATABASE_URL", urls[0])
    with migrated(urls[0]) as engine:
        fill(engine)
    return urls


def content(url: str) -> dict[str, list[Any]]:
    """All rows of every table."""
    with reading(url) as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(select(table))), key=repr)
            for table in metadata.sorted_tables
        }


def is_unfinished(url: str) -> bool:
    with reading(url) as connection:
        return inspect(connection).has_table(UNFINISHED_COPY.name)


def copy(target: str) -> int:
    return main(["copy-database", "--to", target])


def test_every_row_arrives_and_new_rows_follow(filled: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    source, target = filled

    assert copy(target) == 0, capsys.readouterr().err
    assert content(target) == content(source)
    assert not is_unfinished(target)
    rows = sum(map(len, content(source).values()))
    assert f"copied {rows} rows; counts and sums are the same in both databases" in capsys.readouterr().out

    with disposing(writer_engine(target)) as engine:
        batch = Batch("new", NOON, {"carl": Cumulative(happy=1)}, NOON)
        with Store(engine).transaction() as transaction:
            transaction.write(fold([batch], transaction.read_state([batch])))
        with engine.begin() as connection:
            before, newest = connection.scalars(
                select(person_emotion.c.id).order_by(person_emotion.c.id.desc()).limit(2)
            ).all()[::-1]
    assert newest > before == max(row[0] for row in content(source)["person_emotion"])


def test_a_copy_that_ends_after_each_chunk_goes_on_after_it(
    filled: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = filled
    monkeypatch.setattr(copying, "CHUNK_ROWS", 2)

    def one_chunk() -> int:
        with disposing(reader_engine(source)) as engine, copying.prepared(engine, source, target) as copy:
            return sum(next(table.chunks, 0) for table in copy.tables())

    copied = list(iter(one_chunk, 0))
    assert sum(copied) == sum(map(len, content(source).values()))
    assert copy(target) == 0
    assert content(target) == content(source)


def test_no_daemon_starts_on_an_unfinished_copy(filled: tuple[str, str]) -> None:
    source, target = filled
    with disposing(reader_engine(source)) as engine, copying.prepared(engine, source, target) as begun:
        next(next(begun.tables()).chunks)

    daemon = subprocess.run(
        DAEMON, cwd=ROOT, env=without_settings() | {"EMOTION_DATABASE_URL": target}, stderr=subprocess.PIPE, text=True
    )

    assert daemon.returncode == 1
    assert "the database is an unfinished copy of " in daemon.stderr
    assert "run the same `scripts/copy-database --to` again, which continues; exiting." in daemon.stderr
    assert "Traceback" not in daemon.stderr
    assert copy(target) == 0
    with migrated(target):
        assert content(target) == content(source)


def test_a_killed_copy_goes_on(urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = urls
    rows = 10 * copying.CHUNK_ROWS
    seconds = {f"time_{emotion}": 1.5 for emotion in EMOTIONS}
    with migrated(source) as engine, engine.begin() as connection:
        minutes = (NOON + timedelta(minutes=number) for number in range(rows))
        values = [{"device_id": "jetson_1", "minute": at, "most_people": 1} | seconds for at in minutes]
        connection.execute(insert(emotion_minute), values)
    monkeypatch.setenv("EMOTION_DATABASE_URL", source)

    process = subprocess.Popen(
        [*ADMIN, "copy-database", "--to", target], cwd=ROOT, env=without_settings() | {"EMOTION_DATABASE_URL": source}
    )
    wait_until(lambda: is_begun(target) and stored(target) > 0, what="the first chunk is stored", pause=0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 0 < stored(target) < rows
    assert is_unfinished(target)

    assert copy(target) == 0
    assert stored(target) == rows


def is_begun(url: str) -> bool:
    """Return True if a reader knows that the database is being written: without -wal it would think that it is not."""
    path = sqlite_path(url)
    return path is None or Path(f"{path}-wal").exists()


def stored(url: str) -> int:
    """The number of minutes, 0 if there is no such table yet."""
    with reading(url) as connection:
        if not inspect(connection).has_table(emotion_minute.name):
            return 0
        return connection.scalar(select(func.count()).select_from(emotion_minute)) or 0


@pytest.mark.parametrize("which", [0, 1], ids=["the source's", "the target's"])
def test_a_running_daemon_is_refused(
    filled: tuple[str, str], which: int, capsys: pytest.CaptureFixture[str], daemon_on: DaemonOn
) -> None:
    daemon_on(filled[which])

    assert copy(filled[1]) == 1
    error = capsys.readouterr().err
    assert "another daemon is running" in error or "stop every daemon of both databases" in error


@pytest.mark.parametrize("urls", ["to PostgreSQL"], indirect=True)
class TestRefused:
    """Databases that the command refuses, with one sentence and without a change."""

    def test_a_target_with_data(self, filled: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
        _, target = filled
        with migrated(target) as engine, engine.begin() as connection:
            connection.execute(insert(device), {"device_id": "another"})

        assert copy(target) == 1
        assert "has data already, in device: name an empty database" in capsys.readouterr().err
        assert content(target)["device"] == [("another", None, None)]

    def test_a_target_that_was_copied_already(
        self, filled: tuple[str, str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert copy(filled[1]) == 0
        assert copy(filled[1]) == 1
        assert "has data already" in capsys.readouterr().err

    def test_an_unfinished_copy_of_another_source(
        self, filled: tuple[str, str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        source, target = filled
        with disposing(reader_engine(source)) as engine, copying.prepared(engine, "sqlite:////other.db", target):
            pass

        assert copy(target) == 1
        assert "has an unfinished copy of /other.db, and this one is of" in capsys.readouterr().err

    def test_a_source_that_has_changed_meanwhile(
        self, filled: tuple[str, str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        source, target = filled
        with disposing(reader_engine(source)) as engine, copying.prepared(engine, source, target) as begun:
            for table in begun.tables():
                list(table.chunks)
        with disposing(writer_engine(source)) as engine, engine.begin() as connection:
            connection.execute(text("UPDATE device_state SET revision = revision + 1 WHERE device_id = 'Z'"))

        assert copy(target) == 1
        assert "the copy of device_state is not its source: sum of revision is" in capsys.readouterr().err
        assert is_unfinished(target)

    def test_the_same_database(self, filled: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
        assert copy(filled[0]) == 1
        assert "--to names the database that EMOTION_DATABASE_URL names" in capsys.readouterr().err

    def test_a_source_with_an_older_schema(self, filled: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
        with disposing(writer_engine(filled[0])) as engine, engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))

        assert copy(filled[1]) == 1
        assert "has schema 0001, but this program copies" in capsys.readouterr().err

    def test_a_daemon_that_started_during_the_copy(self, filled: tuple[str, str], daemon_on: DaemonOn) -> None:
        source, target = filled
        with disposing(reader_engine(source)) as engine, copying.prepared(engine, source, target) as begun:
            for table in begun.tables():
                list(table.chunks)
            daemon_on(next(url for url in filled if sqlite_path(url) is None))
            with pytest.raises(OperatorError, match="stop every daemon of both databases"):
                begun.finish()
        assert is_unfinished(target)

    def test_a_url_that_names_no_database(self, filled: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
        assert copy("postgresql:emotion") == 2
        assert "emotion_admin: --to " in capsys.readouterr().err

    def test_a_server_that_does_not_answer(self, filled: tuple[str, str]) -> None:
        target = f"postgresql+psycopg://u:secret@127.0.0.1:{free_port()}/emotion"
        with (
            disposing(reader_engine(filled[0])) as engine,
            pytest.raises(OperatorError, match=r"cannot write .*:\*\*\*@127.*run the same command again") as raised,
            copying.prepared(engine, filled[0], target),
        ):
            pass
        assert "secret" not in str(raised.value)


@pytest.fixture
def daemon_on() -> Iterator[DaemonOn]:
    """Hold what a daemon holds of a database: the lock of its file, or a connection."""
    with ExitStack() as stack:

        def start(url: str) -> None:
            path = sqlite_path(url)
            if path is not None:
                stack.enter_context(only_one(path))
            else:
                stack.enter_context(stack.enter_context(disposing(writer_engine(url))).connect())

        yield start
