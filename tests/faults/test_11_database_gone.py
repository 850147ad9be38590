"""The database is deleted, replaced, cut, made unreadable, or its server ends, under load."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle
from pathlib import Path

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from emotion_api.web.operations import DEFAULT_DEVICE_ID
from emotion_daemon.storage.migrations import upgrade
from shared.database import writer_engine
from shared.schema import person_emotion
from tests.brokers import Broker
from tests.databases import disposing
from tests.faults.conftest import Rounds
from tests.faults.history import ALONE, Fleet, PersonKey, Row, expected_rows, stored_rows
from tests.faults.rig import PROBE, SUBSCRIBED, Rig, running
from tests.postgresql import PostgreSQL
from tests.processes import bound_by_permissions
from tests.waiting import wait_until
from tests.web import SUMMARY, Api


def delete(path: Path) -> None:
    path.unlink()


def delete_all_three(path: Path) -> None:
    delete_the_wal(path)
    Path(f"{path.resolve()}-shm").unlink()
    path.unlink()


def replace_with_an_empty_file(path: Path) -> None:
    other = path.with_name("other")
    other.touch()
    other.replace(path)


def replace_with_another_database(path: Path) -> None:
    other = path.with_name("other")
    with disposing(writer_engine(f"sqlite:///{other}")) as engine:
        upgrade(engine)
    other.replace(path)


def replace_with_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def move_behind_a_link(path: Path) -> None:
    real = path.resolve()
    moved = real.with_name(f"{real.name} moved")
    real.replace(moved)
    path.unlink(missing_ok=True)
    path.symlink_to(moved)


def delete_the_wal(path: Path) -> None:
    Path(f"{path.resolve()}-wal").unlink()


FAULTS = (
    delete,
    delete_all_three,
    replace_with_an_empty_file,
    replace_with_another_database,
    replace_with_a_folder,
    move_behind_a_link,
    delete_the_wal,
)


def test_nothing_is_acknowledged_into_a_file_that_is_gone(
    broker: Broker, sqlite_url: str, tmp_path: Path, rounds: Rounds
) -> None:
    """Each batch is in the old file or in the one that takes its place; those that came later are in the latter."""
    path, former = tmp_path / "emotion.db", list[Path]()
    with running(broker, sqlite_url, tmp_path / "log") as rig:
        for turn, (chance, fault) in enumerate(zip(rounds(len(FAULTS), full=40), cycle(FAULTS)), start=1):
            rig.fleet.wait_for_more(chance.randint(20, 150))
            former.append(tmp_path / f"former {turn}.db")
            os.link(path.resolve(), former[-1])  # to be read when it is gone from its place
            fault(path)
            sent = rig.fleet.sent
            assert rig.daemon.wait() == 1, fault.__name__
            if path.is_dir():
                path.rmdir()
            start_again(rig, starts=turn + 1)
        rig.fleet.finish()
        later = expected_rows(rig.fleet.sent_after(sent))
        wait_until(lambda: later.keys() <= stored_rows(sqlite_url).keys(), what="the later batches are in the new file")
        stored = together_in(former, sqlite_url)

        assert stored == expected_rows(rig.fleet.history)
        assert rig.daemon.log().count("was deleted or replaced") == turn
        assert "Traceback" not in rig.daemon.log()


def test_a_file_that_the_operator_made_shorter_is_no_trouble(
    broker: Broker, sqlite_url: str, tmp_path: Path, rounds: Rounds
) -> None:
    path = tmp_path / "emotion.db"
    with running(broker, sqlite_url, tmp_path / "log") as rig, disposing(create_engine(sqlite_url)) as other:
        operator = other.execution_options(isolation_level="AUTOCOMMIT")
        for _ in rounds(1, full=10):
            rig.fleet.wait_for_more(50)
            with operator.connect() as connection:
                connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
                connection.execute(text("CREATE TABLE large AS SELECT randomblob(1000000)"))
                connection.execute(text("DROP TABLE large"))
                connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
                rig.check_receiving()
                before = path.stat().st_size
                connection.execute(text("VACUUM"))
                connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
                assert path.stat().st_size < before
            rig.check_receiving()
        rig.check()
        log = rig.daemon.log()

    assert log.count(SUBSCRIBED) == 1


def test_a_file_that_may_not_be_read_is_waited_for(
    broker: Broker, sqlite_url: str, tmp_path: Path, rounds: Rounds
) -> None:
    path = tmp_path / "emotion.db"
    with running(broker, sqlite_url, tmp_path / "log") as rig:
        for turn, _ in enumerate(rounds(1, full=5), start=1):
            rig.fleet.wait_for_more(20)
            path.chmod(0)
            rig.fleet.wait_for_more(20)
            rig.daemon.kill()
            rig.daemon.start(bound_by_permissions())
            rig.daemon.wait_for_log("the database does not answer", times=turn)
            path.chmod(0o600)
            rig.daemon.wait_for_log(SUBSCRIBED, times=turn + 1)
            rig.check_receiving()
        rig.check()


def test_a_server_that_ends_and_comes_back_loses_nothing(
    broker: Broker, own_postgresql: PostgreSQL, tmp_path: Path, rounds: Rounds
) -> None:
    with running(broker, own_postgresql.new_database(), tmp_path / "log") as rig:
        for chance, end in zip(rounds(2, full=40), cycle((own_postgresql.stop, own_postgresql.kill))):
            rig.fleet.wait_for_more(chance.randint(20, 150))
            end()
            rig.fleet.wait_for_more(chance.randint(1, 200))
            own_postgresql.start()
            rig.check_receiving()
        rig.check()
        log = rig.daemon.log()
    assert log.count(SUBSCRIBED) == 1


def test_a_database_that_is_dropped_and_made_anew_gets_what_comes_later(
    broker: Broker, postgresql: PostgreSQL, tmp_path: Path, rounds: Rounds
) -> None:
    url = postgresql.new_database()
    name = make_url(url).database
    elsewhere = create_engine(postgresql.new_database())
    with running(broker, url, tmp_path / "log") as rig, disposing(elsewhere) as other:
        administrator = other.execution_options(isolation_level="AUTOCOMMIT")
        for turn, _ in enumerate(rounds(1, full=10), start=1):
            rig.fleet.wait_for_more(20)
            with administrator.connect() as connection:
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
                sent = rig.fleet.sent
                rig.fleet.wait_for_more(20)
                connection.execute(text(f"CREATE DATABASE {name}"))
            assert rig.daemon.wait() == 1
            start_again(rig, starts=turn + 1)

        check_later(rig, sent)


def test_a_table_that_was_dropped_ends_it_with_a_sentence(
    broker: Broker, database_url: str, tmp_path: Path, rounds: Rounds
) -> None:
    with running(broker, database_url, tmp_path / "log") as rig, disposing(create_engine(database_url)) as other:
        for turn, _ in enumerate(rounds(1, full=10), start=1):
            rig.fleet.wait_for_more(20)
            with other.begin() as connection:
                person_emotion.drop(connection)
            sent = rig.fleet.sent
            assert rig.daemon.wait() == 1
            with other.begin() as connection:
                person_emotion.create(connection)
            start_again(rig, starts=turn + 1)

        check_later(rig, sent)


def test_the_api_says_so_while_there_is_no_database_and_shows_the_next_one(
    broker: Broker, sqlite_url: str, tmp_path: Path, rounds: Rounds
) -> None:
    path = tmp_path / "emotion.db"
    with running(broker, sqlite_url, tmp_path / "log") as rig, Api(sqlite_url, tmp_path / "api.log") as api:
        wait_until(lambda: api.ask(SUMMARY).status == 200, what="the API has a first answer")
        for chance, fault in zip(rounds(2, full=40), cycle((delete_all_three, *FAULTS))):
            rig.fleet.wait_for_more(chance.randint(20, 150))
            fault(path)
            statuses = ask_until(api, lambda _: rig.daemon.ended)
            if path.is_dir():
                path.rmdir()
            rig.daemon.start()
            statuses |= ask_until(api, shows(only_person_in_the_newest_batch(rig.fleet)))

            assert statuses <= {(200, False), (503, True)}, fault.__name__
        assert "Traceback" not in api.log()


def ask_until(api: Api, condition: Callable[[str], bool]) -> set[tuple[int, bool]]:
    """Until an answer fits; returns the statuses of all answers, and whether each said when to come again."""
    statuses = set()

    def ask_once_more() -> bool:
        answer = api.ask(SUMMARY)
        statuses.add((answer.status, "retry-after" in answer.headers))
        return condition(answer.body.decode())

    wait_until(ask_once_more, what="the API's answer fits")
    return statuses


def shows(what: str) -> Callable[[str], bool]:
    return lambda shown: what in shown


def only_person_in_the_newest_batch(fleet: Fleet) -> str:
    """Of the device that the API is asked for, as JSON has it."""
    batches = (json.loads(entry.payload) for entry in reversed(fleet.history))
    newest = next(batch for batch in batches if batch["device_id"] == DEFAULT_DEVICE_ID)
    (person,) = (person["person_id"] for person in newest["people"] if person["person_id"].startswith(ALONE))
    return f'"{person}"'


def recover(rig: Rig, path: Path) -> int:
    """The daemon goes on after a fault, or is brought back; returns how many batches were sent until the fault."""
    sent = rig.fleet.sent
    rig.fleet.wait_for_more(1)
    if not goes_on(rig):
        bring_back(rig, path)
    rig.check_receiving()
    return sent


def check_later(rig: Rig, sent: int) -> None:
    """End the publishing, then: of the batches behind the `sent`-th all is stored, and there was no traceback."""
    rig.fleet.finish()
    later = expected_rows(rig.fleet.sent_after(sent))
    wait_until(lambda: later.items() <= stored_rows(rig.url).items(), what="the later batches are stored")
    assert "Traceback" not in rig.daemon.log()


def goes_on(rig: Rig) -> bool:
    """Return True if the daemon stores the newest batch; otherwise it has ended with exit code 1."""
    newest = expected_rows(rig.fleet.history[-1:])

    def stored() -> bool:
        with suppress(DBAPIError):  # what was cut may not be readable
            return newest.keys() <= stored_rows(rig.url).keys()
        return False

    wait_until(lambda: rig.daemon.ended or stored(), what="the batch is stored, or the daemon has ended")
    return not rig.daemon.ended or rig.daemon.wait() != 1


def bring_back(rig: Rig, path: Path) -> None:
    """Start the daemon; where it refuses what is left, once more without that."""
    starts = rig.daemon.log().count(SUBSCRIBED)
    rig.daemon.start()

    wait_until(
        lambda: rig.daemon.ended or rig.daemon.log().count(SUBSCRIBED) > starts,
        what="the daemon is subscribed, or has ended",
    )
    if rig.daemon.ended:
        assert rig.daemon.wait() == 1
        for name in (path, f"{path}-wal", f"{path}-shm"):
            Path(name).unlink(missing_ok=True)
        start_again(rig, starts=starts + 1)


def start_again(rig: Rig, *, starts: int) -> None:
    """Start the daemon again, as its service manager would; it is the so-manieth start."""
    rig.daemon.start()
    rig.daemon.wait_for_log(SUBSCRIBED, times=starts)
    rig.check_receiving()


def together_in(former: list[Path], url: str) -> dict[PersonKey, Row]:
    """Return the rows of several files: of each person the newest."""
    rows: dict[PersonKey, Row] = {}
    for found in (*(stored_rows(f"sqlite:///{path}") for path in former), stored_rows(url)):
        for key, row in found.items():
            if key[0] != PROBE and (key not in rows or rows[key].last_seen <= row.last_seen):
                rows[key] = row
    return rows
