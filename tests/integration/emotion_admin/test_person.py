"""`python -m emotion_admin person`: what is erased, what is written out, and what does not come back."""

import base64
import contextlib
import io
import json
import os
import sqlite3
import subprocess
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import Engine, event, insert, select, text
from sqlalchemy.exc import OperationalError

from emotion_admin import commands
from emotion_admin import person as person_module
from emotion_admin.__main__ import main
from emotion_daemon.rules.fold import fold
from emotion_daemon.rules.outcome import Rejected
from emotion_daemon.rules.tombstones import digest
from emotion_daemon.storage import lock_retry
from emotion_daemon.storage import purge as purge_module
from emotion_daemon.storage.dead_letters import HIDDEN_REASON
from emotion_daemon.storage.store import Store
from shared.batch import Batch, Cumulative, Topics, encode
from shared.database import reader_engine, sqlite_path, without_write_lock, writer_engine
from shared.schema import device, emotion_minute, forgotten_person, person_emotion, rejected_message
from shared.settings import Settings
from tests.background import repeatedly
from tests.databases import disposing, migrated, reading
from tests.postgresql import PostgreSQL
from tests.processes import ADMIN, bound_by_permissions, without_settings
from tests.waiting import wait_until
from tests.web import SUMMARY, served

TOPIC = "emotions/jetson_1/batch"
TOPICS = Topics("emotions")
STAMP = datetime(2025, 11, 14, 12, 34, 56, tzinfo=UTC)
NAME = "Zofie Nowak-4711"
"""A person's id that stands nowhere else."""

Run = Callable[..., int]


@pytest.fixture
def engine(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("EMOTION_DATABASE_URL", database_url)
    with migrated(database_url) as engine:
        yield engine


@pytest.fixture
def sqlite_engine(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("EMOTION_DATABASE_URL", sqlite_url)
    with migrated(sqlite_url) as engine:
        yield engine


@pytest.fixture
def postgresql_engine(postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    url = postgresql.new_database()
    monkeypatch.setenv("EMOTION_DATABASE_URL", url)
    with migrated(url) as engine:
        yield engine


def url_of(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


@pytest.fixture
def run() -> Run:
    """Runs `person VERB` about NAME of jetson_1, or about the person that the arguments name; returns the exit code."""

    def person(verb: str, *arguments: str) -> int:
        return main(["person", verb, "--device", "jetson_1", "--person", NAME, *arguments])

    return person


def batch(*people: str, stamp: datetime = STAMP, device_id: str = "jetson_1", happy: float = 2) -> Batch:
    return Batch(device_id, stamp, dict.fromkeys(people, Cumulative(happy=happy)), stamp)


def commit(store: Store, *batches: Batch) -> None:
    with store.transaction() as transaction:
        transaction.write(fold(batches, transaction.read_state(batches)))


def record(engine: Engine, *payloads: bytes, topic: str = TOPIC, reason: str = "a reason") -> None:
    with Store(engine).transaction() as transaction:
        owner = TOPICS.owner(topic)
        transaction.reject([Rejected(topic, reason, payload, STAMP, device_id=owner) for payload in payloads])


def people(engine: Engine) -> list[tuple[str, str]]:
    query = select(person_emotion.c.device_id, person_emotion.c.person_id)
    with without_write_lock(engine.connect()) as connection:
        return sorted((device_id, person_id) for device_id, person_id in connection.execute(query))


def rejected(engine: Engine) -> list[bytes]:
    with engine.connect() as connection:
        return list(connection.scalars(select(rejected_message.c.payload).order_by(rejected_message.c.id)))


def reasons(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(select(rejected_message.c.reason).order_by(rejected_message.c.id)))


def tombstones(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(select(forgotten_person).order_by(forgotten_person.c.until)))


class TestForget:
    def test_the_row_goes_and_those_of_others_stay(
        self, engine: Engine, run: Run, capsys: pytest.CaptureFixture[str]
    ) -> None:
        commit(Store(engine), batch(NAME, "bert"), batch(NAME, device_id="jetson_2"))

        assert run("forget") == 0
        assert people(engine) == [("jetson_1", "bert"), ("jetson_2", NAME)]
        assert "jetson_1: deleted 1 person, and the payloads of 0 dead letters" in capsys.readouterr().out

    def test_payloads_of_the_device_and_of_no_device_go_and_others_stay(
        self, engine: Engine, run: Run, capsys: pytest.CaptureFixture[str]
    ) -> None:
        record(engine, NAME.encode(), b"{bert", NAME.encode("utf-16"))
        record(engine, b"fine", topic="emotions/jetson_1/status")
        record(engine, b"{", topic="emotions/no device/batch")
        record(engine, b"{carl", topic="emotions/jetson_2/batch")

        assert run("forget") == 0
        assert rejected(engine) == [b""] * 5 + [b"{carl"]
        deleted = "a reason; payload deleted: a person was erased"
        assert reasons(engine) == [*[deleted] * 4, HIDDEN_REASON, "a reason"]
        assert (
            "jetson_1: no person of this id is stored; deleted the payloads of 5 dead letters"
            in capsys.readouterr().out
        )

    @pytest.mark.parametrize(
        "written",
        [
            lambda name: unicodedata.normalize("NFC", name).encode(),
            lambda name: unicodedata.normalize("NFD", name).encode(),
            lambda name: json.dumps(name).encode(),
            lambda name: "".join(f"\\u{ord(character):04X}" for character in name).encode(),
            lambda name: quote(name).encode(),
            lambda name: name.encode("utf-16"),
            lambda name: name.encode("utf-32"),
            lambda name: name.encode("iso8859-2"),
            lambda name: base64.b64encode(name.encode()),
            lambda name: name.encode()[3:-3],
        ],
        ids=["NFC", "NFD", "JSON", "escapes", "percent", "UTF-16", "UTF-32", "ISO 8859-2", "Base64", "a part"],
    )
    def test_a_payload_goes_however_it_writes_the_id(
        self, engine: Engine, run: Run, written: Callable[[str], bytes]
    ) -> None:
        name = "Žofie Nowáková"
        payload = b'{"device_id": "jetson_1", "people": [{"person_id": "' + written(name)
        record(engine, payload)
        record(engine, payload, topic="emotions/jetson_1/status")
        record(engine, payload, topic="emotions/no device/batch")

        assert run("forget", "--person", name) == 0
        assert rejected(engine) == [b"", b"", b""]

    def test_a_second_one_finds_no_payload_of_the_first(
        self, engine: Engine, run: Run, capsys: pytest.CaptureFixture[str]
    ) -> None:
        record(engine, b"{")
        run("forget")
        run("forget")

        assert reasons(engine) == ["a reason; payload deleted: a person was erased"]
        assert "deleted the payloads of 0 dead letters" in capsys.readouterr().out

    def test_history_and_device_stay(self, engine: Engine, run: Run) -> None:
        commit(Store(engine), batch(NAME), batch(NAME, stamp=STAMP + timedelta(seconds=1), happy=3))
        run("forget")

        with engine.connect() as connection:
            assert connection.scalars(select(emotion_minute.c.time_happy)).all() == [1.0]
            assert connection.scalars(select(device.c.updated_at)).all() == [STAMP + timedelta(seconds=1)]

    def test_a_tombstone_is_left_that_does_not_have_the_id(self, engine: Engine, run: Run) -> None:
        before = datetime.now(UTC)
        run("forget", "--hours", "2")

        ((device_id, hashed, salt, forgotten_at, until),) = tombstones(engine)
        assert (device_id, hashed) == ("jetson_1", digest(NAME, salt))
        assert before <= forgotten_at <= datetime.now(UTC)
        assert until == forgotten_at + timedelta(hours=2)
        assert len(salt) == 16

    def test_a_day_is_what_it_holds_without_being_told(self, engine: Engine, run: Run) -> None:
        run("forget")

        ((_, _, _, forgotten_at, until),) = tombstones(engine)
        assert until - forgotten_at == timedelta(hours=24)

    def test_a_second_one_takes_the_place_of_the_first(self, engine: Engine, run: Run) -> None:
        run("forget", "--hours", "0")
        run("forget")

        ((_, _, _, forgotten_at, until),) = tombstones(engine)
        assert until - forgotten_at == timedelta(hours=24)

    def test_it_does_not_end_earlier(self, engine: Engine, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        run("forget", "--hours", "1000")
        ((_, _, _, _, until),) = tombstones(engine)
        run("forget")

        assert [row.until for row in tombstones(engine)] == [until]
        assert capsys.readouterr().out.count(f"timestamps up to {until:%Y-%m-%dT%H:%M:%SZ}\n") == 2

    @pytest.mark.parametrize("column", ["updated_at", "received_at"])
    def test_where_our_clock_is_behind_it_counts_from_what_the_camera_said_last(
        self, engine: Engine, run: Run, capsys: pytest.CaptureFixture[str], column: str
    ) -> None:
        right = datetime.now(UTC) + timedelta(days=3)
        store = Store(engine, now=lambda: right)
        heard = right if column == "received_at" else STAMP
        commit(store, Batch("jetson_1", right if column == "updated_at" else STAMP, {NAME: Cumulative()}, heard))
        commit(store, Batch("jetson_2", right + timedelta(days=9), {}, right + timedelta(days=9)))
        run("forget", "--hours", "1")

        assert [row.until for row in tombstones(engine)] == [right + timedelta(hours=1)]
        assert "this machine's clock is 72.0 h behind the newest batch of jetson_1" in capsys.readouterr().out

    def test_another_persons_stays(self, engine: Engine, run: Run) -> None:
        run("forget")
        run("forget", "--person", "bert")

        assert len({row.digest for row in tombstones(engine)}) == 2
        assert len({row.salt for row in tombstones(engine)}) == 1

    def test_of_nobody_it_says_so_and_keeps_out_who_may_still_come(
        self, engine: Engine, run: Run, capsys: pytest.CaptureFixture[str]
    ) -> None:
        commit(Store(engine), batch("bert"))

        assert run("forget") == 0
        assert "jetson_1: no person of this id is stored; deleted the payloads of 0" in capsys.readouterr().out
        assert len(tombstones(engine)) == 1

    @pytest.mark.parametrize(
        ("stored", "said"),
        [
            (("camera_2", "camera_1"), "known devices: camera_1, camera_2\n"),
            ((), "known devices: none\n"),
            (range(30), ", 25, 26, …\n"),
        ],
    )
    def test_of_a_device_that_nobody_has_heard_of_it_is_an_error(
        self, engine: Engine, run: Run, capsys: pytest.CaptureFixture[str], stored: Sequence[object], said: str
    ) -> None:
        commit(Store(engine), *(batch("bert", device_id=str(each)) for each in stored))

        assert run("forget") == 1
        out, err = capsys.readouterr()
        assert "no message of jetson_1 has ever arrived" in err
        assert err.endswith(said)
        assert "restart the broker" not in out

    def test_a_device_that_sent_only_invalid_messages_is_known(self, engine: Engine, run: Run) -> None:
        record(engine, b"{")

        assert run("forget") == 0

    @pytest.mark.parametrize("stored", ["Zoe\u0301", "Zo\u00e9", "\uff3a\uff4f\u00e9", "Zoe\u0301 "])
    @pytest.mark.parametrize("given", ["Zoe\u0301", "Zo\u00e9", " Zoé", "Zoé "])
    def test_an_id_that_only_looks_the_same_is_an_error(
        self, engine: Engine, run: Run, capsys: pytest.CaptureFixture[str], stored: str, given: str
    ) -> None:
        commit(Store(engine), batch(stored))

        assert run("forget", "--person", given) == (0 if stored == given else 1)
        assert ("write the id as the device does" in capsys.readouterr().err) == (stored != given)

    def test_it_makes_no_device(self, engine: Engine, run: Run) -> None:
        run("forget")

        with engine.connect() as connection:
            assert connection.execute(select(device)).all() == []

    def test_a_devices_name_stays(self, engine: Engine, run: Run) -> None:
        with engine.begin() as connection:
            connection.execute(insert(device), {"device_id": "jetson_1", "device_name": "Entrance"})
        run("forget")

        with engine.connect() as connection:
            assert connection.scalars(select(device.c.device_name)).all() == ["Entrance"]

    def test_the_summary_that_the_api_has_kept_does_not_show_them_any_more(self, engine: Engine, run: Run) -> None:
        commit(Store(engine), batch(NAME, "bert"))
        with served(Settings(database_url=url_of(engine))) as client:
            before = client.get(SUMMARY).get_json()
            run("forget")
            after = client.get(SUMMARY).get_json()

        assert {person["person_id"] for person in before["current_people"]} == {NAME, "bert"}
        assert {person["person_id"] for person in after["current_people"]} == {"bert"}
        assert after["emotion_totals"]["happy"] == 2.0

    def test_it_prints_nothing_that_names_them(
        self, engine: Engine, run: Run, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EMOTION_SQL_ECHO", "true")
        monkeypatch.setenv("EMOTION_LOG_LEVEL", "DEBUG")
        commit(Store(engine), batch(NAME))
        record(engine, NAME.encode())
        run("forget")

        out, err = capfd.readouterr()
        assert "INSERT INTO forgotten_person" in out + err
        assert "4711" not in out + err


class TestWhoIsMeant:
    def test_standard_input_keeps_the_id_off_the_command_line(
        self, engine: Engine, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commit(Store(engine), batch(NAME, "bert"))
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{NAME}\n"))

        assert run("forget", "--person", "-") == 0
        assert people(engine) == [("jetson_1", "bert")]

    @pytest.mark.parametrize("text", ["", "\n", "x" * 129, "a\tb\n"])
    def test_what_is_no_id_there_is_one_sentence(
        self, sqlite_engine: Engine, run: Run, text: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(text))

        with pytest.raises(SystemExit) as caught:
            run("forget", "--person", "-")

        assert caught.value.code == 2
        assert "a person_id has 1 to 128 characters" in capsys.readouterr().err
        assert tombstones(sqlite_engine) == []

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (("--person", ""), "a person_id has 1 to 128 characters"),
            (("--person", "x" * 129), "a person_id has 1 to 128 characters"),
            (("--person", "a\nb"), "a person_id has 1 to 128 characters"),
            (("--person", "a\udcff"), "a person_id has 1 to 128 characters"),
            (("--device", "jetson 1"), "a device_id has 1 to 64 of"),
            (("--device", ""), "a device_id has 1 to 64 of"),
            (("--hours", "-1"), "is not a number from 0 to 87,600"),
            (("--hours", "nan"), "is not a number from 0 to 87,600"),
            (("--hours", "1e9"), "is not a number from 0 to 87,600"),
            (("--hours", "a day"), "is not a number from 0 to 87,600"),
        ],
    )
    def test_a_wrong_argument_is_exit_code_2(
        self, sqlite_engine: Engine, run: Run, arguments: tuple[str, str], sentence: str, capsys: Any
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            run("forget", *arguments)

        assert caught.value.code == 2
        assert sentence in capsys.readouterr().err
        assert tombstones(sqlite_engine) == []

    @pytest.mark.parametrize("verb", ["forget", "export"])
    def test_a_database_that_is_not_there_is_not_made(
        self, run: Run, verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        monkeypatch.setenv("EMOTION_DATABASE_URL", f"sqlite:///{tmp_path}/other.db")

        assert run(verb) == 1
        assert "other.db: there is no such file" in capsys.readouterr().err
        assert not (tmp_path / "other.db").exists()


class TestTrouble:
    """The operator reads about a failure: its result, and the next step."""

    def test_a_locked_database(
        self, sqlite_engine: Engine, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(lock_retry, "SECONDS", 0.1)
        with sqlite_engine.begin():
            code = run("forget")

        assert code == 1
        assert "database is locked; close the program that holds its lock" in capsys.readouterr().err
        assert tombstones(sqlite_engine) == []

    def test_a_table_that_is_locked_on_postgresql(
        self, postgresql_engine: Engine, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(lock_retry, "SECONDS", 0.1)
        with postgresql_engine.begin() as connection:
            connection.exec_driver_sql("LOCK TABLE person_emotion IN ACCESS EXCLUSIVE MODE")
            code = run("forget")

        assert code == 1
        assert "lock timeout; close the program that holds its lock" in capsys.readouterr().err

    def test_a_file_that_this_user_may_not_write(
        self, sqlite_engine: Engine, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def readonly(connection: Any, record: Any) -> None:
            connection.execute("PRAGMA query_only=ON")

        event.listen(Engine, "connect", readonly)
        try:
            code = run("forget")
        finally:
            event.remove(Engine, "connect", readonly)

        assert code == 1
        assert "readonly database; run this command as the daemon's user" in capsys.readouterr().err

    @pytest.mark.parametrize("module", [person_module, commands])
    def test_an_interrupt(
        self,
        sqlite_engine: Engine,
        run: Run,
        module: ModuleType,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(module, "turn_off_busy_timeout" if module is person_module else "dialect_of", interrupted)

        assert run("forget") == 1
        assert "interrupted; run the same command again" in capsys.readouterr().err

    def test_whoever_does_not_read_what_is_printed_keeps_nobody_in_the_files(self, sqlite_engine: Engine) -> None:
        commit(Store(sqlite_engine), batch(NAME, "bert"))
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [*ADMIN, "person", "forget", "--device", "jetson_1", "--person", NAME],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                timeout=60,
            )

        assert (done.returncode, done.stderr) == (
            2,
            "emotion_admin: standard output cannot be written: No space left on device\n",
        )
        assert NAME.encode() not in _bytes(sqlite_engine)


class TestReplay:
    def test_a_replay_does_not_bring_them_back(self, engine: Engine, run: Run) -> None:
        """A daemon whose transaction began before the erasure may have recorded it on PostgreSQL."""
        run("forget")
        payload = encode("jetson_1", STAMP, {NAME: {"happy": 2.0}, "bert": {"happy": 2.0}})
        row = {"received_at": STAMP, "topic": TOPIC, "reason": "a reason", "payload": payload}
        with engine.begin() as connection:
            connection.execute(insert(rejected_message).values(**row, payload_size=len(payload)))

        assert main(["dead-letters", "replay"]) == 0
        assert people(engine) == [("jetson_1", "bert")]
        assert rejected(engine) == []


class TestDaemonsMemory:
    """A store that has read what is known before another process erases a person."""

    def test_who_is_erased_beside_it_does_not_come_back(self, engine: Engine, run: Run) -> None:
        store = Store(engine)
        commit(store, batch(NAME, "bert"))
        run("forget")
        commit(store, batch(NAME, "bert", stamp=STAMP + timedelta(seconds=1)))

        assert people(engine) == [("jetson_1", "bert")]

    def test_nothing_of_them_is_remembered(self, engine: Engine, run: Run) -> None:
        store = Store(engine)
        commit(store, batch(NAME, "bert"))
        run("forget")
        with store.transaction() as transaction:
            known = transaction.read_state([batch("bert")])
            remembered = {person_id for _, person_id in known.people}

        assert remembered == {"bert"}

    def test_after_the_tombstones_end_they_are_somebody_new(self, engine: Engine, run: Run) -> None:
        store = Store(engine)
        commit(store, batch(NAME, happy=500))
        run("forget", "--hours", "0")
        later = datetime.now(UTC) + timedelta(seconds=30)
        commit(store, batch("bert", stamp=later))
        commit(store, batch(NAME, stamp=later + timedelta(seconds=1), happy=600))

        assert people(engine) == [("jetson_1", NAME), ("jetson_1", "bert")]
        with engine.connect() as connection:
            shown = sum(connection.scalars(select(emotion_minute.c.time_happy)))
        assert shown == pytest.approx(2.0 + 1.0), "bert's, and the second since the batch before; not 600"

    def test_erased_again_and_again_beside_a_store_that_writes_they_leave_no_row(
        self, engine: Engine, run: Run, database_url: str
    ) -> None:
        turns = 0
        with migrated(database_url) as other:
            store = Store(other)

            def write() -> None:
                nonlocal turns
                turns += 1
                commit(store, batch(NAME, "bert", stamp=datetime.now(UTC), happy=turns))

            commit(store, batch(NAME))
            with repeatedly(write, pause=0):
                for _ in range(10):
                    goal = turns + 3
                    assert run("forget", "--hours", "1") == 0
                    assert ("jetson_1", NAME) not in people(engine)
                    wait_until(lambda goal=goal: turns >= goal)  # type: ignore[misc]
            assert people(engine) == [("jetson_1", "bert")]

    def test_a_transaction_in_flight_on_postgresql_is_waited_for(self, postgresql_engine: Engine, run: Run) -> None:
        """No other transaction sees its rows yet, nor could delete them."""

        def is_waiting() -> bool:
            with reading(url_of(postgresql_engine)) as connection:
                return bool(connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))

        with ThreadPoolExecutor(1) as threads:
            with Store(postgresql_engine).transaction() as transaction:
                batches = [batch(NAME, "bert", stamp=datetime.now(UTC))]
                transaction.write(fold(batches, transaction.read_state(batches)))
                forgetting = threads.submit(run, "forget")
                wait_until(is_waiting, what="the command waits for the device's row")
            assert forgetting.result(timeout=30) == 0

            assert people(postgresql_engine) == [("jetson_1", "bert")]

    def test_postgresql_has_them_in_no_statistics(self, postgresql_engine: Engine, run: Run) -> None:
        commit(Store(postgresql_engine), batch(NAME, *(f"bert {number}" for number in range(50))))
        _maintain(postgresql_engine, "ANALYZE")
        before = NAME in _statistics(postgresql_engine)
        run("forget")

        assert (before, NAME in _statistics(postgresql_engine)) == (True, False)


class TestExport:
    @pytest.fixture
    def export(self, run: Run, capsys: pytest.CaptureFixture[str]) -> Callable[[], tuple[Any, str]]:
        def read() -> tuple[Any, str]:
            assert run("export") == 0
            out, err = capsys.readouterr()
            return json.loads(out), err

        return read

    def test_all_there_is_is_one_document(self, engine: Engine, export: Callable[[], tuple[Any, str]]) -> None:
        commit(Store(engine), batch(NAME, "bert"))
        record(engine, b"{", b"{bert")
        record(engine, b"{", topic="emotions/jetson_2/batch")
        document, err = export()

        row = document["person_emotion"]
        assert {**row, "id": 0} == {
            "id": 0,
            "device_id": "jetson_1",
            "person_id": NAME,
            "time_happy": 2.0,
            "time_sad": 0.0,
            "time_angry": 0.0,
            "time_neutral": 0.0,
            "last_seen": "2025-11-14T12:34:56Z",
            "active_at": "2025-11-14T12:34:56Z",
            "emotion_now": "happy",
        }
        assert document["dead_letters_that_may_name_the_person"] == 2
        assert document["forgotten"] is None
        assert err == ""

    def test_of_nobody_there_is_a_document_and_a_line_beside_it(
        self, engine: Engine, export: Callable[[], tuple[Any, str]]
    ) -> None:
        document, err = export()

        assert document == {
            "device_id": "jetson_1",
            "person_id": NAME,
            "person_emotion": None,
            "dead_letters_that_may_name_the_person": 0,
            "forgotten": None,
        }
        assert "no person of that id is stored for jetson_1" in err

    def test_of_who_was_erased_there_is_when(
        self, engine: Engine, run: Run, export: Callable[[], tuple[Any, str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        run("forget", "--hours", "1")
        capsys.readouterr()
        document, _ = export()

        forgotten = {name: datetime.fromisoformat(value) for name, value in document["forgotten"].items()}
        assert forgotten["until"] - forgotten["forgotten_at"] == timedelta(hours=1)

    def test_it_only_reads(self, sqlite_engine: Engine, export: Callable[[], tuple[Any, str]]) -> None:
        with sqlite_engine.begin():  # another program holds the write lock
            assert export()[0]["person_emotion"] is None

    def test_it_needs_no_right_to_write_there(self, sqlite_url: str) -> None:
        with migrated(sqlite_url) as engine:
            commit(Store(engine), batch(NAME))
            path = sqlite_path(engine.url)
            assert path is not None
            path.parent.chmod(0o555)
            try:
                done = {
                    verb: subprocess.run(
                        [*bound_by_permissions(ADMIN), "person", verb, "--device", "jetson_1", "--person", NAME],
                        env=without_settings() | {"EMOTION_DATABASE_URL": sqlite_url, "PYTHONIOENCODING": "ascii"},
                        capture_output=True,
                        text=True,
                        check=False,
                        timeout=60,
                    )
                    for verb in ("export", "forget")
                }
            finally:
                path.parent.chmod(0o755)

        assert json.loads(done["export"].stdout)["person_emotion"]["time_happy"] == 2.0
        assert (done["export"].returncode, done["forget"].returncode) == (0, 2)
        assert "but this user may not write there" in done["forget"].stderr

    def test_it_is_utf_8_whatever_the_terminal_has(self, sqlite_engine: Engine) -> None:
        commit(Store(sqlite_engine), batch("王"))
        shown = subprocess.run(
            [*ADMIN, "person", "export", "--device", "jetson_1", "--person", "王"],
            env=os.environ | {"PYTHONIOENCODING": "latin-1"},
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout

        assert '"王"' in shown.decode()


class TestPurge:
    def test_while_somebody_reads_all_the_time_it_says_what_is_left_to_do(
        self, sqlite_engine: Engine, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(lock_retry, "SECONDS", 0.3)
        commit(Store(sqlite_engine), batch(NAME))
        with reading(str(sqlite_engine.url)) as connection:
            connection.execute(select(person_emotion.c.id)).all()
            code = run("forget")
        out, err = capsys.readouterr()

        assert code == 1
        assert "1 person" in out
        assert "a program reads or writes the database all the time; run the same command again" in err
        assert NAME.encode() in _bytes(sqlite_engine)
        assert run("forget") == 0
        assert NAME.encode() not in _bytes(sqlite_engine)

    def test_a_reader_that_ends_is_waited_for(self, sqlite_engine: Engine, run: Run) -> None:
        commit(Store(sqlite_engine), batch(NAME))
        with disposing(reader_engine(str(sqlite_engine.url))) as engine:
            connection = engine.connect()
            connection.execute(select(person_emotion.c.id)).all()
            timer = threading.Timer(0.5, connection.close)
            timer.start()

            assert run("forget") == 0
            timer.join()
        assert NAME.encode() not in _bytes(sqlite_engine)

    def test_on_postgresql_a_transaction_from_before_is_waited_for(
        self, postgresql_engine: Engine, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """VACUUM would leave what it may still read, and say nothing."""
        commit(Store(postgresql_engine), batch(NAME))
        with reading(url_of(postgresql_engine)) as connection:
            monkeypatch.setattr(lock_retry, "SECONDS", 0.3)
            connection.execution_options(isolation_level="REPEATABLE READ")
            connection.execute(select(person_emotion.c.id)).all()
            code = run("forget")
            err = capsys.readouterr().err
            dead = _dead_rows(postgresql_engine)
            timer = threading.Timer(0.5, connection.close)
            timer.start()
            monkeypatch.setattr(lock_retry, "SECONDS", 30.0)
            after = run("forget")
            timer.join()

        assert (code, after) == (1, 0)
        assert "an older transaction is open" in err
        assert (dead, _dead_rows(postgresql_engine)) == (1, 0)

    def test_on_postgresql_whoever_writes_in_another_database_is_waited_for(
        self, postgresql: PostgreSQL, postgresql_engine: Engine, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A reader that begins here counts from the beginning of a writer there."""
        monkeypatch.setattr(lock_retry, "SECONDS", 0.3)
        with disposing(writer_engine(postgresql.new_database())) as other:
            commit(Store(postgresql_engine), batch(NAME))
            with other.begin() as connection:
                connection.exec_driver_sql("CREATE TABLE unrelated (number int)")
                meanwhile = run("forget")

            assert (meanwhile, run("forget")) == (1, 0)

    def test_on_postgresql_a_vacuum_of_another_table_is_not(
        self, postgresql_engine: Engine, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lock_retry, "SECONDS", 0.3)
        url = url_of(postgresql_engine)
        with disposing(writer_engine(url)) as other, ThreadPoolExecutor(1) as threads:
            commit(Store(postgresql_engine), batch(NAME))
            with other.begin() as connection:
                connection.exec_driver_sql("CREATE TABLE unrelated AS SELECT generate_series(1, 300000) AS number")
            slowly = threads.submit(
                _maintain, other, "SET vacuum_cost_delay = 100", "SET vacuum_cost_limit = 10", "VACUUM unrelated"
            )
            wait_until(lambda: _vacuums(url) == 1, what="the VACUUM of another table goes on")
            code, meanwhile = run("forget"), _vacuums(url)
            with postgresql_engine.begin() as connection:
                connection.exec_driver_sql("SELECT pg_cancel_backend(pid) FROM pg_stat_progress_vacuum")

            assert isinstance(slowly.exception(), OperationalError)
            assert (code, meanwhile) == (0, 1)

    def test_a_database_that_cannot_grow_is_said(
        self, sqlite_engine: Engine, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(purge_module, "_truncate_wal", full)

        assert run("forget") == 1
        assert "database or disk is full; run the same command again" in capsys.readouterr().err

    def test_the_copy_that_is_made_lies_beside_the_database(
        self, sqlite_engine: Engine, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """/tmp may be small, memory, or read-only."""
        commit(Store(sqlite_engine), batch(*(f"{number:0100}" for number in range(20_000))))
        seen: set[str] = set()
        done = threading.Event()

        def look() -> None:
            while not done.is_set():
                for link in Path("/proc/self/fd").iterdir():
                    with contextlib.suppress(OSError):
                        seen.add(os.readlink(link))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            run("forget")
        finally:
            done.set()
            thread.join()

        folder = str(Path(sqlite_engine.url.database or "").parent)
        assert {os.path.dirname(name) for name in seen if "etilqs" in name} == {folder}


def _maintain(engine: Engine, *statements: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def _vacuums(url: str) -> int:
    with reading(url) as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM pg_stat_progress_vacuum").scalar_one())


def _dead_rows(engine: Engine) -> int:
    """Rows of people that no transaction sees and that still stand in PostgreSQL's file."""
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS pgstattuple")
        return int(
            connection.exec_driver_sql("SELECT dead_tuple_count FROM pgstattuple('person_emotion')").scalar_one()
        )


def _statistics(engine: Engine) -> str:
    """The samples of values that PostgreSQL keeps of its tables."""
    query = "SELECT histogram_bounds::text, most_common_vals::text FROM pg_stats WHERE schemaname = 'public'"
    with engine.connect() as connection:
        return str(connection.exec_driver_sql(query).all())


def _bytes(engine: Engine) -> bytes:
    """All that stands in the database's files."""
    path = sqlite_path(engine.url)
    assert path is not None
    return b"".join(each.read_bytes() for each in sorted(path.parent.glob(f"{path.name}*")))


def test_pages_that_were_split_and_freed_have_nothing_left(sqlite_engine: Engine, run: Run) -> None:
    """With a SQLite that does not overwrite what is deleted, and by what wrote the database before."""
    path = sqlite_path(sqlite_engine.url)
    assert path is not None
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA secure_delete=OFF")
        insert_row = """
            INSERT INTO person_emotion (device_id, person_id, time_happy, time_sad, time_angry, time_neutral, last_seen)
            VALUES (?, ?, 1, 1, 1, 1, '2025-11-14 12:00:00.000000')
        """
        connection.executemany(insert_row, [(f"camera_{number * 7919 % 3_000}", NAME) for number in range(3_000)])
        connection.execute("DELETE FROM person_emotion")
        connection.execute(insert_row, ("jetson_1", NAME))
        connection.commit()
    assert _bytes(sqlite_engine).count(NAME.encode()) > 1_000

    assert run("forget") == 0
    assert NAME.encode() not in _bytes(sqlite_engine)
