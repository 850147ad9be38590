"""Broker, daemon, API and a device start in any order with nothing there yet; two daemons start together."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random

from sqlalchemy import text

from emotion_daemon.storage.migrations import upgrade
from emotion_device import Publisher
from shared.database import sqlite_path, writer_engine
from tests.brokers import Broker
from tests.faults.conftest import Rounds
from tests.faults.history import Fleet
from tests.faults.rig import SUBSCRIBED, Rig
from tests.faults.together import together
from tests.processes import Daemon
from tests.waiting import wait_until
from tests.web import SUMMARY, Api


def test_after_a_first_start_in_any_order_all_of_it_works(
    tmp_path: Path, new_database_url: Callable[[], str], rounds: Rounds
) -> None:
    for turn, chance in enumerate(rounds(1, full=50)):
        folder = tmp_path / str(turn)
        folder.mkdir()
        with ExitStack() as started:
            check_first_start(started, folder, new_database_url(), chance)


def check_first_start(started: ExitStack, folder: Path, url: str, chance: Random) -> None:
    """Check that a device's batch reaches the API; before that the API only says that the client has to wait."""
    broker, api = Broker(folder), Api(url, folder / "api.log")
    daemon = Daemon(broker, url, folder / "daemon.log")
    device = started.enter_context(Publisher("jetson_1", host=broker.host, port=broker.port))
    started.callback(broker.kill)
    starts: list[Callable[[], object]] = [
        broker.start,
        partial(started.enter_context, daemon),
        partial(started.enter_context, api),
        partial(device.publish, {"anna": {"happy": 0.5}}),
    ]
    chance.shuffle(starts)
    at_once = chance.random() < 0.5
    print(", ".join(getattr(start, "func", start).__qualname__ for start in starts), "at once" * at_once)
    if at_once:
        together(starts)
    else:
        for start in starts:
            start()
    statuses = set()

    def shown(seconds: int) -> bool:
        # Before the daemon's first subscription the broker keeps nothing: the device's next batch has it all.
        device.publish({"anna": {"happy": float(seconds)}})
        answer = api.ask(f"{SUMMARY}?device_id=jetson_1")
        statuses.add((answer.status, "retry-after" in answer.headers))
        return answer.status == 200 and json.loads(answer.body)["emotion_totals"]["happy"] >= 1

    seconds = iter(range(1, 10_000))
    wait_until(lambda: shown(next(seconds)), pause=0.1, what=f"the API shows it; {daemon.log()}")

    assert statuses <= {(200, False), (503, True)}
    assert "Traceback" not in daemon.log() + api.log()


def test_of_two_daemons_that_make_the_schema_together_none_breaks_it(
    broker: Broker, new_database_url: Callable[[], str], tmp_path: Path, rounds: Rounds
) -> None:
    for turn, _ in enumerate(rounds(1, full=50)):
        folder = tmp_path / str(turn)
        folder.mkdir()
        check_two_starts(broker, new_database_url(), folder)


def test_a_schema_that_several_make_at_the_same_moment_is_made_once(
    new_database_url: Callable[[], str], rounds: Rounds
) -> None:
    for _ in rounds(5, full=50):
        engines = [writer_engine(url) for url in [new_database_url()] * 4]
        together(partial(upgrade, engine) for engine in engines)
        with engines[0].connect() as connection:
            steps = connection.execute(text("SELECT count(*) FROM alembic_version")).scalar_one()
        for engine in engines:
            engine.dispose()

        assert steps == 1


def check_two_starts(broker: Broker, url: str, folder: Path) -> None:
    """On SQLite one of them ends with a sentence; PostgreSQL takes both."""
    one, two = (
        Daemon(broker, url, folder / name, EMOTION_MQTT_CLIENT_ID=f"{name}-{folder.name}") for name in ("one", "two")
    )
    with one, two:
        wait_until(lambda: settled(one) and settled(two), what="each is subscribed or has ended")
        running = [daemon for daemon in (one, two) if not daemon.ended]
        with Fleet(broker) as fleet:
            fleet.wait_for_more(20)
            Rig(broker, running[0], url, fleet).check()
        logs = one.log() + two.log()

    assert len(running) == (2 if sqlite_path(url) is None else 1)
    assert logs.count("another daemon is running on") == 2 - len(running)
    assert "Traceback" not in logs


def settled(daemon: Daemon) -> bool:
    return daemon.ended or SUBSCRIBED in daemon.log()
