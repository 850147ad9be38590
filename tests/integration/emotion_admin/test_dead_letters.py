"""`scripts/dead-letters`: what an operator sees, and what a replay changes."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event, select

from emotion_admin.__main__ import main
from emotion_daemon.rules.fold import fold
from emotion_daemon.rules.outcome import Rejected
from emotion_daemon.storage.dead_letters import STORED_PAYLOAD
from emotion_daemon.storage.store import Store
from shared.batch import Batch, Cumulative, encode
from shared.database import sqlite_path
from shared.schema import device_state, person_emotion, rejected_message
from tests.databases import migrated
from tests.processes import ROOT

TOPIC = "emotions/jetson_1/batch"
RECEIVED_AT = datetime(2025, 11, 14, 12, 35, tzinfo=UTC)
STAMP = datetime(2025, 11, 14, 12, 34, 56, tzinfo=UTC)
VALID = encode("jetson_1", STAMP, {"anna": {"happy": 2.0}})

Run = Callable[..., list[str]]
"""Runs the command with arguments and returns the lines that it printed."""


@pytest.fixture
def engine(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("EMOTION_DATABASE_URL", database_url)
    with migrated(database_url) as engine:
        yield engine


@pytest.fixture
def run(engine: Engine, capsys: pytest.CaptureFixture[str]) -> Run:
    def dead_letters(*arguments: str) -> list[str]:
        assert main(["dead-letters", *arguments]) == 0
        return capsys.readouterr().out.splitlines()

    return dead_letters


def record(engine: Engine, *payloads: bytes, topic: str = TOPIC, reason: str = "a reason") -> None:
    with Store(engine).transaction() as transaction:
        transaction.reject([Rejected(topic, reason, payload, RECEIVED_AT) for payload in payloads])


def left(engine: Engine) -> list[tuple[bytes, str]]:
    with engine.connect() as connection:
        query = select(rejected_message.c.payload, rejected_message.c.reason).order_by(rejected_message.c.id)
        return [(payload, reason) for payload, reason in connection.execute(query)]


def happy(engine: Engine) -> dict[str, float]:
    with engine.connect() as connection:
        query = select(person_emotion.c.person_id, person_emotion.c.time_happy)
        return {person_id: value for person_id, value in connection.execute(query)}


class TestList:
    def test_nothing_rejected_is_said_with_the_database_that_was_looked_at(self, run: Run, engine: Engine) -> None:
        assert run("list") == [f"no rejected messages in {engine.url}"]

    def test_a_database_that_is_not_there_is_one_sentence_and_is_not_made(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("EMOTION_DATABASE_URL", f"sqlite:///{tmp_path}/other.db")

        code = main(["dead-letters", "list"])

        assert code == 1
        assert (
            "other.db: there is no such file; check that EMOTION_DATABASE_URL is the daemon's"
            in capsys.readouterr().err
        )
        assert not (tmp_path / "other.db").exists()

    def test_a_locked_database_is_listed_all_the_same(self, run: Run, engine: Engine) -> None:
        record(engine, b"{")

        with engine.begin():
            assert len(run("list")) == 3

    def test_a_record_is_shown_with_its_time_topic_size_reason_and_payload(self, run: Run, engine: Engine) -> None:
        record(engine, b"\xff{", reason="not UTF-8 JSON")

        assert run("list") == [
            "1  2025-11-14T12:35:00Z  emotions/jetson_1/batch  2 bytes",
            "    not UTF-8 JSON",
            "    b'\\xff{'",
        ]

    def test_the_newest_come_first(self, run: Run, engine: Engine) -> None:
        record(engine, b"1", b"2", b"3")

        assert [line.strip() for line in run("list") if line.startswith("    b")] == ["b'3'", "b'2'", "b'1'"]

    def test_a_limit_shows_only_the_newest(self, run: Run, engine: Engine) -> None:
        record(engine, b"1", b"2", b"3")

        assert [line.strip() for line in run("list", "--limit", "1") if line.startswith("    b")] == ["b'3'"]

    def test_as_much_of_the_payload_is_shown_as_was_asked_for(self, run: Run, engine: Engine) -> None:
        record(engine, b"abcdef")

        assert run("list", "--bytes", "3")[-1] == "    b'abc'"

    def test_a_payload_cannot_write_to_the_terminal(self, run: Run, engine: Engine) -> None:
        record(engine, b"\x1b[2J\nforged")

        assert run("list")[-1] == "    b'\\x1b[2J\\nforged'"

    def test_listing_changes_nothing(self, run: Run, engine: Engine) -> None:
        record(engine, VALID)
        run("list")

        assert left(engine) == [(VALID, "a reason")]
        assert happy(engine) == {}

    @pytest.mark.parametrize("arguments", [["--limit", "-1"], ["--limit", "x"], ["--bytes", "1.5"], ["--all"]])
    def test_a_wrong_argument_is_exit_code_2(self, run: Run, arguments: list[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            run(*arguments)

        assert caught.value.code == 2

    def test_a_reader_that_leaves_ends_it_in_silence(self, engine: Engine) -> None:
        record(engine, *(b"x" * 100 for _ in range(1_000)))
        command = [sys.executable, "-m", "emotion_admin", "dead-letters", "list", "--limit", "1000"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout
            assert process.stderr
            process.stdout.readline()
            process.stdout.close()  # as `| head -1` does
            said = process.stderr.read()

        assert (process.returncode, said) == (0, b"")

    def test_what_becomes_of_a_broken_pipe_elsewhere_in_this_process_stays(self, run: Run) -> None:
        before = signal.getsignal(signal.SIGPIPE)
        run("list")

        assert signal.getsignal(signal.SIGPIPE) == before


class TestShow:
    def test_the_payload_is_printed_as_it_arrived(
        self, engine: Engine, capfdbinary: pytest.CaptureFixture[bytes]
    ) -> None:
        record(engine, b"1", b"\xff{\n")

        assert main(["dead-letters", "show", "2"]) == 0
        assert capfdbinary.readouterr() == (b"\xff{\n", b"")

    def test_a_payload_that_was_not_stored_whole_is_printed_as_far_as_it_was(
        self, engine: Engine, capfdbinary: pytest.CaptureFixture[bytes]
    ) -> None:
        record(engine, b"x" * (STORED_PAYLOAD + 1))

        assert main(["dead-letters", "show", "1"]) == 0
        shown, said = capfdbinary.readouterr()
        assert shown == b"x" * STORED_PAYLOAD
        assert said == b"only 65536 of its 65537 bytes were stored\n"

    def test_a_payload_that_was_not_stored_is_exit_code_1(
        self, engine: Engine, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with Store(engine, totals_only=True).transaction() as transaction:
            transaction.reject([Rejected(TOPIC, "a reason", b"{", RECEIVED_AT)])

        assert main(["dead-letters", "show", "1"]) == 1
        assert "the payload of 1 was not stored: a reason" in capsys.readouterr().err

    def test_an_unknown_number_is_exit_code_1(self, engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["dead-letters", "show", "7"]) == 1
        assert "there is no invalid message 7: scripts/dead-letters list shows the numbers" in capsys.readouterr().err


class TestReplay:
    def test_a_checkpoint_that_the_daemon_makes_meanwhile_is_no_trouble(self, run: Run, engine: Engine) -> None:
        """The daemon itself would count a write by another program as a change."""
        record(engine, VALID)
        path = sqlite_path(engine.url)

        def write_into_the_file(connection: Connection) -> None:
            if path is not None:
                os.utime(path, ns=(0, 1))

        event.listen(Engine, "commit", write_into_the_file)
        try:
            assert run("replay")[-1] == "1 stored, 0 still rejected"
        finally:
            event.remove(Engine, "commit", write_into_the_file)

    def test_what_is_a_valid_batch_now_is_stored_and_its_record_deleted(self, run: Run, engine: Engine) -> None:
        record(engine, VALID)

        assert run("replay") == ["1  emotions/jetson_1/batch  stored", "1 stored, 0 still rejected"]
        assert happy(engine) == {"anna": 2.0}
        assert left(engine) == []

    def test_the_others_stay_with_their_new_reason(self, run: Run, engine: Engine) -> None:
        record(engine, b"{", VALID, b"")
        lines = run("replay")

        assert re.match(r"1  emotions/jetson_1/batch  still rejected: not UTF-8 JSON: .*truncated", lines[0])
        assert lines[1] == "2  emotions/jetson_1/batch  stored"
        assert lines[-1] == "1 stored, 2 still rejected"
        assert [payload for payload, _ in left(engine)] == [b"{", b""]
        assert "a reason" not in {reason for _, reason in left(engine)}

    def test_a_newer_row_stays_as_it_is(self, run: Run, engine: Engine) -> None:
        newer = Batch("jetson_1", RECEIVED_AT, {"anna": Cumulative(happy=9)}, RECEIVED_AT)
        with Store(engine).transaction() as transaction:
            transaction.write(fold([newer]))
        record(engine, VALID)
        run("replay")

        assert happy(engine) == {"anna": 9.0}
        assert left(engine) == []

    def test_a_clock_is_judged_by_when_the_message_arrived(self, run: Run, engine: Engine) -> None:
        record(engine, encode("jetson_1", datetime(2025, 11, 14, 18, 0, tzinfo=UTC), {"anna": {"happy": 1}}))
        run("replay")

        with engine.connect() as connection:
            assert connection.scalar(select(person_emotion.c.last_seen)) == RECEIVED_AT

    def test_a_payload_that_was_not_kept_whole_stays(self, run: Run, engine: Engine) -> None:
        record(engine, VALID + b" " * STORED_PAYLOAD)
        lines = run("replay")

        assert lines[-1] == "0 stored, 1 still rejected"
        assert f"only {STORED_PAYLOAD} of its {STORED_PAYLOAD + len(VALID)} bytes were stored" in lines[0]
        assert happy(engine) == {}

    def test_a_batch_on_another_devices_topic_stays(self, run: Run, engine: Engine) -> None:
        record(engine, VALID, topic="emotions/jetson_2/batch")
        run("replay")

        assert happy(engine) == {}
        assert len(left(engine)) == 1

    def test_a_status_stays_with_its_reason(self, run: Run, engine: Engine) -> None:
        record(engine, b"fine", topic="emotions/jetson_1/status")

        assert run("replay")[0] == "1  emotions/jetson_1/status  still rejected: a reason"
        assert left(engine) == [(b"fine", "a reason")]

    def test_a_replay_does_not_count_as_hearing_from_the_device(self, run: Run, engine: Engine) -> None:
        record(engine, VALID)
        run("replay")

        with engine.connect() as connection:
            assert connection.execute(select(device_state.c.received_at)).all() == [(None,)]

    def test_a_second_replay_finds_nothing_more(self, run: Run, engine: Engine) -> None:
        record(engine, VALID)
        run("replay")

        assert run("replay") == ["0 stored, 0 still rejected"]

    def test_the_oldest_is_replayed_first(self, run: Run, engine: Engine) -> None:
        record(engine, VALID, encode("jetson_1", STAMP, {"anna": {"happy": 3.0}}))
        run("replay")

        assert happy(engine) == {"anna": 3.0}


class TestDelete:
    def test_it_deletes_the_messages_of_one_device_on_both_its_topics(self, run: Run, engine: Engine) -> None:
        record(engine, b"1", b"2")
        record(engine, b"3", topic="emotions/jetson_1/status")
        record(engine, b"4", topic="emotions/jetson_10/batch")

        assert run("delete", "jetson_1") == ["deleted 3 invalid messages of jetson_1"]
        assert left(engine) == [(b"4", "a reason")]
