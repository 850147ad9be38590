"""Doctor finds out if a daemon runs here, and reads its state."""

import fcntl
import threading
from pathlib import Path

import pytest

from emotion_admin.doctor.daemon_status import SUBJECT, WRITES, lock_is_held, parse_metrics
from emotion_daemon.storage.errors import DatabaseInUseError
from emotion_daemon.storage.file_lock import only_one
from tests.databases import migrated
from tests.integration.emotion_admin.doctor.examining import answering, examined
from tests.waiting import free_port

COMMITS = 'emotion_database_failing{reason="locked"} 0\nemotion_database_failing{reason="other"} 0\n'


def test_a_lock_that_nobody_holds_is_free(tmp_path: Path) -> None:
    path = tmp_path / "emotion.db"
    assert lock_is_held(path) is False
    with only_one(path):
        assert lock_is_held(path) is True
    assert lock_is_held(path) is False
    with only_one(path):  # and asking does not hold it
        pass


def test_a_daemon_that_starts_waits_for_whoever_only_asks(tmp_path: Path) -> None:
    path = tmp_path / "emotion.db"
    with (tmp_path / "emotion.db.lock").open("w") as probe:
        fcntl.flock(probe, fcntl.LOCK_SH)
        timer = threading.Timer(0.05, lambda: fcntl.flock(probe, fcntl.LOCK_UN))
        timer.start()
        with only_one(path):
            timer.join()


def test_a_daemon_that_starts_does_not_wait_for_another_daemon(tmp_path: Path) -> None:
    path = tmp_path / "emotion.db"
    with only_one(path), pytest.raises(DatabaseInUseError), only_one(path):
        pass


def test_a_daemon_that_is_ready(sqlite_url: str, tmp_path: Path) -> None:
    with only_one(tmp_path / "emotion.db"), answering(200, "ok", COMMITS) as address:
        found = examined(None, sqlite_url, {"EMOTION_DAEMON_HTTP_ADDRESS": address})

    assert found[SUBJECT].found == "a daemon runs and says: ok"
    assert (found.level(SUBJECT), found.level(WRITES)) == ("ok", "ok")


def test_a_daemon_that_is_not_ready_says_why(sqlite_url: str, tmp_path: Path) -> None:
    with only_one(tmp_path / "emotion.db"), answering(503, "cannot commit: database is locked") as address:
        found = examined(None, sqlite_url, {"EMOTION_DAEMON_HTTP_ADDRESS": address})[SUBJECT]

    assert found.level == "problem"
    assert "database is locked" in found.found


@pytest.mark.parametrize(
    ("reason", "advice"), [("locked", "write lock"), ("full", "room"), ("unreachable", "server"), ("other", "log")]
)
def test_a_daemon_that_cannot_commit(reason: str, advice: str, sqlite_url: str, tmp_path: Path) -> None:
    metrics = COMMITS + f'emotion_database_failing{{reason="{reason}"}} 1\n'
    with only_one(tmp_path / "emotion.db"), answering(503, "cannot commit", metrics) as address:
        found = examined(None, sqlite_url, {"EMOTION_DAEMON_HTTP_ADDRESS": address})[WRITES]

    assert found.level == "problem"
    assert advice in found.advice


def test_a_loop_that_stands_still(sqlite_url: str, tmp_path: Path) -> None:
    metrics = "emotion_loop_age_seconds 3600\n"
    with only_one(tmp_path / "emotion.db"), answering(200, "ok", metrics) as address:
        found = examined(None, sqlite_url, {"EMOTION_DAEMON_HTTP_ADDRESS": address})[SUBJECT]

    assert found.level == "problem"
    assert "3600 s" in found.found


def test_a_commit_that_hangs(sqlite_url: str, tmp_path: Path) -> None:
    metrics = COMMITS + "emotion_database_wait_seconds 7.2\n"
    with only_one(tmp_path / "emotion.db"), answering(503, "waiting", metrics) as address:
        found = examined(None, sqlite_url, {"EMOTION_DAEMON_HTTP_ADDRESS": address})[WRITES]

    assert (found.level, found.found) == ("problem", "the daemon has waited 7 s for one commit or query")
    assert "EmotionDatabaseHangs" in found.advice


def test_a_daemon_that_holds_the_database_and_does_not_answer(sqlite_url: str, tmp_path: Path) -> None:
    with only_one(tmp_path / "emotion.db"):
        found = examined(None, sqlite_url, {"EMOTION_DAEMON_HTTP_ADDRESS": f"127.0.0.1:{free_port()}"})[SUBJECT]

    assert found.level == "problem"
    assert "nothing listens there" in found.found


def test_a_daemon_that_has_another_database(sqlite_url: str) -> None:
    with migrated(sqlite_url), answering(200, "ok") as address:
        found = examined(None, sqlite_url, {"EMOTION_DAEMON_HTTP_ADDRESS": address})[SUBJECT]

    assert found.level == "problem"
    assert "EMOTION_DATABASE_URL" in found.advice


def test_without_a_lock_and_an_address_nobody_can_tell(sqlite_url: str) -> None:
    url = "postgresql+psycopg://reader@127.0.0.1:1/none"
    unknown, none = (
        examined(None, url),
        examined(None, url, {"EMOTION_DAEMON_HTTP_ADDRESS": f"127.0.0.1:{free_port()}"}),
    )

    assert "cannot tell" in unknown[SUBJECT].found
    assert unknown[SUBJECT].advice == "Set EMOTION_DAEMON_HTTP_ADDRESS for both daemon and doctor."
    assert none[SUBJECT].found == "no daemon runs here"


def test_a_daemon_that_listens_everywhere_is_asked_on_this_machine(sqlite_url: str) -> None:
    with answering(200, "ok") as address:
        port = address.rpartition(":")[2]
        found = examined(None, sqlite_url, {"EMOTION_DAEMON_HTTP_ADDRESS": f"0.0.0.0:{port}"})[SUBJECT]

    assert "a daemon answers at" in found.found


def test_metrics_are_values_by_name_and_label() -> None:
    text = 'a_total 1.0\nb{reason="full"} 1\nc_bucket{le="1.0",view="x"} 3\n'

    assert parse_metrics(text) == {"a_total": 1.0, "b:full": 1.0}
