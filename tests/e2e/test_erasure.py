"""A person is erased: beside a running daemon, while one is away, and out of every file."""

import json
import secrets
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import func, select

from shared.batch import encode
from shared.schema import forgotten_person, person_emotion, rejected_message
from tests.background import repeatedly
from tests.brokers import Broker
from tests.clients import Client
from tests.databases import reading
from tests.faults.history import DEVICES, TOPICS
from tests.faults.intruders import Intruder
from tests.faults.rig import SUBSCRIBED, integrity, person_is_stored, rejected_count, running
from tests.processes import ADMIN, ROOT, Daemon, environment
from tests.waiting import wait_until
from tests.web import Api

LOUD = {"EMOTION_LOG_LEVEL": "DEBUG", "EMOTION_SQL_ECHO": "true"}
"""All that daemon, command and API can be made to write."""


@pytest.fixture
def name() -> str:
    """A person's id that stands nowhere else."""
    return f"Žofie Nowak {secrets.token_hex(8)}"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "daemon.log"


@pytest.fixture
def forget(broker: Broker, database_url: str, name: str, tmp_path: Path) -> Callable[..., str]:
    """Runs the command as an operator does; returns what it printed, which is kept in a file too."""

    def run(*arguments: str) -> str:
        finished = subprocess.run(
            [*ADMIN, "person", "forget", "--device", "jetson_1", "--person", "-", *arguments],
            cwd=ROOT,
            env=environment(broker, database_url) | LOUD,
            input=name.encode(),
            capture_output=True,
            timeout=90,
            check=False,
        )
        said = finished.stdout + finished.stderr
        with (tmp_path / "forget.log").open("ab") as kept:
            kept.write(said)
        assert finished.returncode == 0, said.decode()[-2_000:]
        return said.decode()

    return run


def now_and(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def send(client: Client, happy: float, *people: str, stamp: datetime | None = None) -> None:
    payload = encode("jetson_1", stamp or datetime.now(UTC), {person: {"happy": happy} for person in people})
    client.send(TOPICS.batch("jetson_1"), payload)


def is_stored(url: str, person: str) -> bool:
    return person_is_stored(url, "jetson_1", person)


def test_what_waits_with_the_broker_does_not_bring_them_back(
    broker: Broker, database_url: str, log: Path, name: str, forget: Callable[..., str]
) -> None:
    with Daemon(broker, database_url, log) as daemon, Client(broker, "jetson_1") as camera:
        daemon.wait_for_log(SUBSCRIBED)
        send(camera, 1, name, "bert")
        wait_until(lambda: is_stored(database_url, name), what="it is stored")
        daemon.stop()
        for number in range(600):
            send(camera, 2 + number, name, "bert", f"other {number}")
        camera.send(
            TOPICS.batch("jetson_1"), encode("jetson_1", datetime(1970, 1, 1, tzinfo=UTC), {name: {"sad": 1.0}})
        )
        camera.wait_for_pubacks()
        forget("--hours", "0")
        daemon.start()
        send(camera, 700, "the last")
        wait_until(lambda: is_stored(database_url, "the last"), what="the queue is drained")

        assert not is_stored(database_url, name)
        with reading(database_url) as connection:
            assert connection.scalar(select(func.count()).select_from(person_emotion)) == 602


def test_a_batch_that_the_broker_retained_goes_from_its_store(
    broker: Broker, database_url: str, log: Path, name: str, forget: Callable[..., str]
) -> None:
    """Published beside the daemon, while it is away, at a QoS that does not wait for it, and as a last will."""

    def in_the_store() -> bool:
        broker.wait_for_save()
        return name.encode() in (broker.folder / "mosquitto.db").read_bytes()

    def batch_of(device_id: str) -> bytes:
        return encode(device_id, datetime.now(UTC), {name: {"happy": 1.0}})

    with Daemon(broker, database_url, log) as daemon, Client(broker, "jetson_1") as camera:
        daemon.wait_for_log(SUBSCRIBED)
        camera.publish(TOPICS.batch("jetson_1"), batch_of("jetson_1"), retain=True)
        wait_until(lambda: is_stored(database_url, name), what="it is stored")
        with Intruder(broker, "jetson_4", will=(TOPICS.batch("jetson_4"), batch_of("jetson_4"), True)) as dropped:
            daemon.stop()
            dropped.drop()
            for device_id, qos in (("jetson_1", 1), ("jetson_2", 0), ("jetson_3", 2)):
                camera.publish(TOPICS.batch(device_id), batch_of(device_id), qos=qos, retain=True)
            camera.publish(TOPICS.status("jetson_1"), name.encode(), retain=True)
        before = in_the_store()
        forget()
        daemon.start()
        wait_until(lambda: not in_the_store(), what="the broker deletes it")

    assert before
    assert not is_stored(database_url, name)


def test_beside_a_daemon_a_camera_that_still_sees_them_does_not_bring_them_back(
    broker: Broker, database_url: str, log: Path, name: str, forget: Callable[..., str]
) -> None:
    turns = 0
    with Daemon(broker, database_url, log) as daemon, Client(broker, "jetson_1") as camera:
        daemon.wait_for_log(SUBSCRIBED)

        def report() -> None:
            nonlocal turns
            turns += 1
            send(camera, turns, name, "bert", f"turn {turns}")

        with repeatedly(report, pause=0.01):
            wait_until(lambda: is_stored(database_url, name), what="it is stored")
            forget()
            last = turns + 20
            wait_until(lambda: is_stored(database_url, f"turn {last}"), what="the daemon goes on")
            back = is_stored(database_url, name)
        camera.wait_for_pubacks()
        wait_until(lambda: is_stored(database_url, f"turn {turns}"), what="all is stored")

        assert not back
        assert not is_stored(database_url, name)
        with reading(database_url) as connection:
            assert connection.scalar(select(func.count()).select_from(person_emotion)) == turns + 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_daemon_under_load_loses_nothing_and_goes_on(
    broker: Broker, database_url: str, log: Path, name: str, forget: Callable[..., str]
) -> None:
    """Run a daemon into whose file another program writes."""
    with running(broker, database_url, log, devices=DEVICES[1:]) as rig, Client(broker, "jetson_1") as camera:
        for _ in range(3):
            send(camera, 1, name, stamp=now_and(0))
            wait_until(lambda: is_stored(database_url, name), what="it is stored")
            forget("--hours", "0")
            assert not is_stored(database_url, name)
            rig.fleet.wait_for_more(50)

        assert not rig.daemon.ended
        rig.check()
        rig.check_history()


class TestFiles:
    """No file contains the id when all is done."""

    @pytest.fixture
    def database_url(self, sqlite_url: str) -> str:
        return sqlite_url

    @pytest.fixture
    def daemon(self, broker: Broker, database_url: str, log: Path) -> Iterator[Daemon]:
        with Daemon(broker, database_url, log, **LOUD) as started:
            started.wait_for_log(SUBSCRIBED)
            yield started

    def test_no_file_has_the_id_any_more(
        self,
        daemon: Daemon,
        broker: Broker,
        database_url: str,
        name: str,
        forget: Callable[..., str],
        tmp_path: Path,
    ) -> None:
        written = (json.dumps(name)[1:-1].encode(), name.encode(), name.encode("utf-16-le"), name.encode("utf-16-be"))
        files = [tmp_path, broker.folder]
        with Api(database_url, tmp_path / "api.log", **LOUD) as api, Client(broker, "jetson_1") as camera:
            # The person among others whose rows come and go: their pages are split, freed and used again.
            for number in range(300):
                send(camera, number, name, *(f"{(number * 7919 + other) % 10_007:0120}" for other in range(40)))
            for payload in bad_batches(name):
                camera.send(TOPICS.batch("jetson_1"), payload)
            camera.wait_for_pubacks()
            send(camera, 1000, "the last")
            wait_until(lambda: is_stored(database_url, "the last"), what="all is stored")
            assert name.encode() in everything(files)
            shown = api.ask(f"/api/dashboard/summary?device_id=jetson_1&limit=1&after={quote(name)}")
            daemon.stop()
            send(camera, 1001, name, "bert")
            queued = bad_batches(name)
            for payload in queued:
                camera.send(TOPICS.batch("jetson_1"), payload)
            camera.wait_for_pubacks()
            broker.wait_for_save()
            assert name.encode() in (broker.folder / "mosquitto.db").read_bytes()
            forget()
            daemon.start()
            wait_until(lambda: rejected_count(database_url) == 2 * len(queued), what="the queue is drained")
            broker.wait_for_save()
            wait_until(lambda: name.encode() not in (broker.folder / "mosquitto.db").read_bytes(), what="it is saved")
            left = api.summary("jetson_1")
            found = [form for form in written if form in everything(files)]

        assert shown.status == 200
        assert name not in {person["person_id"] for person in left["current_people"]}
        assert found == []
        assert integrity(database_url) == "ok"
        assert "UPDATE rejected_message" in (tmp_path / "forget.log").read_text()
        with reading(database_url) as connection:
            assert connection.scalar(select(func.count()).select_from(forgotten_person)) == 1
            assert set(connection.scalars(select(rejected_message.c.payload))) == {b""}
            assert connection.scalar(select(func.count()).select_from(rejected_message)) == 2 * len(queued)


def bad_batches(name: str) -> list[bytes]:
    """Return invalid batches that contain the person."""
    whole = encode("jetson_1", datetime.now(UTC), {name: {"happy": 1.0}})
    return [
        whole[:-1],
        whole.replace(b"1.0", b"-1"),
        whole.replace(b"jetson_1", b"jetson_2"),
        json.dumps({"device_id": "jetson_1", "timestamp": "x", "people": [{"person_id": name}]}).encode(),
        whole.decode().encode("utf-16"),
        whole + b" " * 70_000 + whole,
    ]


def everything(folders: list[Path]) -> bytes:
    """The bytes of all files in them."""
    return b"\n".join(path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file())
