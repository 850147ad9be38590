"""`python -m emotion_admin doctor` as an operator runs it, with a daemon at work and without."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from emotion_admin.__main__ import main
from emotion_admin.doctor import connack, finding
from emotion_admin.roles import DAEMON
from emotion_daemon.__main__ import main as daemon_main
from shared.batch import Topics
from tests.brokers import Broker, logins, shipped_rules
from tests.databases import migrated
from tests.faults.intruders import Intruder
from tests.integration.emotion_admin.doctor.examining import answering, examined
from tests.processes import ADMIN as COMMAND
from tests.processes import ROOT, Daemon, environment, without_settings
from tests.waiting import wait_until

SUBSCRIBED = "subscribed to emotions/+/batch"
TOPICS = Topics("emotions")


def run(broker: Broker, url: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "doctor", *arguments],
        cwd=ROOT,
        env=environment(broker, url) | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.program
def test_beside_a_daemon_all_is_ok_and_the_daemon_is_not_disturbed(tmp_path: Path, sqlite_url: str) -> None:
    """With the shipped rules a login is its own client id: a second one would end the daemon."""
    password = logins(tmp_path).renew(DAEMON)
    broker = Broker(tmp_path, shipped_rules(tmp_path))
    broker.start()
    login = {"EMOTION_MQTT_USERNAME": DAEMON, "EMOTION_MQTT_PASSWORD": password}
    try:
        with Daemon(broker, sqlite_url, tmp_path / "log", **login) as daemon:
            daemon.wait_for_log(SUBSCRIBED)
            findings = examined(broker, sqlite_url, login)

            assert findings.amiss == []
            assert "not tried" in findings[connack.LOGIN].found
            assert findings["broker anonymous"].found == "the broker accepts only clients with a login"
            assert daemon.stop() == 0
            log = daemon.log()
    finally:
        broker.kill()
    assert log.count(SUBSCRIBED) == 1
    assert "WARNING" not in log
    assert "ERROR" not in log


def test_without_a_daemon_only_that_is_a_warning(broker: Broker, sqlite_url: str) -> None:
    with migrated(sqlite_url):
        pass
    result = run(broker, sqlite_url, "--json")
    findings = json.loads(result.stdout)["findings"]
    amiss = [found for found in findings if found["level"] != "ok"]

    assert result.stderr == ""
    assert {found["subject"] for found in amiss} - {"clock", "database disk", "database file system"} == {"daemon"}
    assert all(found["advice"] for found in amiss)
    assert {"broker login", "broker session", "database schema"} <= {found["subject"] for found in findings}


def test_whoever_reads_only_the_beginning_sees_no_traceback(sqlite_url: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*COMMAND, "doctor"],
            cwd=ROOT,
            env=without_settings() | {"EMOTION_DATABASE_URL": sqlite_url, "EMOTION_MQTT_PORT": "1"},
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    finally:
        os.close(writing)

    assert done.stderr == b""


@pytest.mark.parametrize(
    ("where", "code", "sentence"),
    [
        (">&-", 1, ""),
        ("| head -n 1; exit ${PIPESTATUS[0]}", 1, ""),
        (">/dev/full", 2, "emotion_admin: standard output cannot be written: No space left on device\n"),
    ],
)
def test_what_becomes_of_its_words_is_no_traceback(where: str, code: int, sentence: str, sqlite_url: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m emotion_admin doctor {where}"],
        cwd=ROOT,
        env=without_settings() | {"EMOTION_DATABASE_URL": sqlite_url, "EMOTION_MQTT_PORT": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (code, sentence)


def test_json_stays_json_where_the_terminal_lacks_a_letter(broker: Broker, tmp_path: Path) -> None:
    done = run(broker, f"sqlite:///{tmp_path}/Kück/e.db", "--json", PYTHONIOENCODING="ascii")

    assert done.stderr == ""
    assert any("/Kück" in found["found"] for found in json.loads(done.stdout)["findings"])


@pytest.mark.parametrize(
    ("level", "status", "word"), [("ok", 200, "ok"), ("problem", 503, '{"detail": "the database cannot be read"}')]
)
def test_an_api_is_asked_where_it_is_said_to_be(sqlite_url: str, level: str, status: int, word: str) -> None:
    with answering(status, word) as address:
        found = examined(None, sqlite_url, api_urls=[f"http://{address}"])["api"]

    assert found.level == level
    assert level == "ok" or found.found == "the database cannot be read"


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "fd://3"])
def test_an_api_without_an_address_is_a_problem_and_no_silence(sqlite_url: str, url: str) -> None:
    found = examined(None, sqlite_url, api_urls=[url])["api"]

    assert found.level == "problem"
    assert found.found.startswith("not checked: ")


@pytest.mark.parametrize("option", [("--service", "mosquitto")])
def test_an_option_that_cannot_be_one_is_exit_code_2(
    option: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["doctor", *option])

    assert caught.value.code == 2
    assert f"'{option[1]}' is not like" in capsys.readouterr().err


def test_a_problem_is_a_line_with_advice_below_it_and_exit_code_1(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EMOTION_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("EMOTION_MQTT_PORT", "1")

    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("problem  broker address"))
    assert lines[at].endswith("nothing listens at localhost:1")
    assert lines[at + 1].strip().startswith("-> Start the broker")
    assert lines[-1].startswith("problems: 1, warnings: ")
    assert lines[-1].endswith(". For log lines and symptoms see docs/troubleshooting.md")


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("a folder that this user may not enter", "Permission denied"),
        ("a link to itself", "Too many levels of symbolic links"),
        ("a long name", "File name too long"),
        ("a folder that is not there", "there is no folder"),
        ("a link into a folder that is not there", "there is no folder"),
    ],
)
def test_a_database_that_nobody_can_open_is_a_problem_for_doctor_and_a_sentence_of_the_daemon(
    kind: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    private, link = tmp_path / "private", tmp_path / "link.db"
    private.mkdir(mode=0o700)
    path = {
        "a folder that this user may not enter": private / "emotion.db",
        "a link to itself": link,
        "a long name": tmp_path / f"{'x' * 300}.db",
        "a folder that is not there": tmp_path / "no" / "emotion.db",
        "a link into a folder that is not there": link,
    }[kind]
    link.symlink_to(link if kind == "a link to itself" else tmp_path / "no" / "emotion.db")
    monkeypatch.setenv("EMOTION_DATABASE_URL", f"sqlite:///{path}")
    monkeypatch.setenv("EMOTION_MQTT_HOST", "127.0.0.1")
    monkeypatch.setenv("EMOTION_MQTT_PORT", "1")
    with kept_out_of(private) if path.parent == private else nullcontext():
        examined = main(["doctor", "--json"])
        findings = {found["subject"]: found for found in json.loads(capsys.readouterr().out)["findings"]}
        started = daemon_main([])

    assert examined == 1
    assert findings["database"]["level"] == "problem"
    assert why in findings["database"]["found"]
    assert findings["broker address"]["level"] == "problem"
    assert started == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("emotion_daemon: EMOTION_DATABASE_URL names ")


@contextmanager
def kept_out_of(folder: Path) -> Iterator[None]:
    """Close `folder` to the user of the tests for the block: root becomes another user for so long."""
    folder.chmod(0)
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(os.getuid())
        folder.chmod(0o700)


def test_a_setting_that_cannot_work_is_its_sentence_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EMOTION_MQTT_PORT", "0")

    assert main(["doctor"]) == 2
    assert "EMOTION_MQTT_PORT is '0', but" in capsys.readouterr().err


def test_an_unknown_user_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "--api-user", "no such user"])

    assert caught.value.code == 2
    assert "there is no user 'no such user' here" in capsys.readouterr().err


def test_an_unknown_variable_is_a_warning(sqlite_url: str) -> None:
    found = examined(None, sqlite_url, {"EMOTION_MQTT_HOTS": "x"})["settings"]

    assert found.level == "warning"
    assert "did you mean EMOTION_MQTT_HOST?" in found.found


def test_what_a_broker_says_cannot_write_to_the_terminal() -> None:
    assert finding.as_text(finding.ok("x", "a\x1b[2Jb")).endswith("a?[2Jb")


def test_looking_makes_no_file_beside_a_database_that_nobody_has_open(
    broker: Broker, sqlite_url: str, tmp_path: Path
) -> None:
    with migrated(sqlite_url):
        pass
    before = sorted(path.name for path in tmp_path.iterdir())

    assert examined(broker, sqlite_url, thorough=True)["database content"].level == "ok"
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_session_that_waits_keeps_its_messages_and_the_presence_stays(
    broker: Broker, sqlite_url: str, tmp_path: Path
) -> None:
    with Daemon(broker, sqlite_url, tmp_path / "log") as daemon:
        daemon.wait_for_log(SUBSCRIBED)
        assert daemon.stop() == 0
        with Intruder(broker, client_id="jetson_1") as device:
            for number in range(3):
                device.publish(TOPICS.batch("jetson_1"), b"no batch %d" % number)
        session = examined(broker, sqlite_url)[connack.SESSION]
        with Intruder(broker) as onlooker:
            onlooker.subscribe(TOPICS.status("emotion-daemon"))
            wait_until(lambda: onlooker.seen, what="the daemon's presence")
            seen = list(onlooker.seen)
        daemon.start()
        daemon.wait_for_log("session resumed")

        wait_until(lambda: _rejected(sqlite_url) == 3, what="all that waited is on record")
        assert session == finding.ok(connack.SESSION, "stored")
        assert seen == [(TOPICS.status("emotion-daemon"), b"offline")]


def _rejected(url: str) -> int:
    found = examined(None, url)["devices rejected"].found
    return int(found.rpartition(" ")[2]) if found.startswith("invalid messages") else 0


def test_a_session_that_doctor_had_to_make_is_gone_with_it(
    start_broker: Callable[[str], Broker], sqlite_url: str, tmp_path: Path
) -> None:
    broker = start_broker("")
    session = examined(broker, sqlite_url)[connack.SESSION]

    assert session.found == "none yet: the broker queues nothing for the daemon"
    with Daemon(broker, sqlite_url, tmp_path / "log") as daemon:
        daemon.wait_for_log("new session: the broker queued no earlier batches")
