"""The Nth call to the database fails: once, or from then on until it is mended; before it did its work, or after."""

import sys
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from emotion_daemon.ingest import Ingest
from emotion_daemon.monitoring.report import Report
from emotion_daemon.mqtt.publish_packet import Message
from emotion_daemon.storage.errors import is_temporary
from emotion_daemon.storage.migrations import upgrade
from emotion_daemon.storage.store import Store
from shared.batch import encode
from shared.database import writer_engine
from tests.brokers import Broker
from tests.fakes import FakeSource
from tests.faults.conftest import Rounds
from tests.faults.failing_driver import SQLITE_ERRORS, Failure, install
from tests.faults.history import START, TOPICS, Acknowledged, PersonKey, Row, expected_rows, stored_rows
from tests.faults.rig import SUBSCRIBED, running

BATCHES = 200
GROUP = 5
HIGHEST = 200
"""The last call that fails; a run makes more of them."""

ATTEMPTS = 4
"""Attempts that meet a lasting failure before it is mended."""


class Witness(FakeSource):
    """A broker that looks into the database at every PUBACK: is that batch there?"""

    def __init__(self, url: str) -> None:
        super().__init__(group_limit=GROUP)
        self._url = url
        self.too_early: list[bytes] = []

    def ack(self, messages: Iterable[Message]) -> int:
        listed = list(messages)
        stored = stored_rows(self._url).keys()
        self.too_early += [message.payload for message in listed if not expected(message.payload).keys() <= stored]
        return super().ack(listed)


@pytest.mark.parametrize("late", [False, True], ids=["undone", "done"])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
def test_whichever_call_fails_nothing_is_lost(
    lasting: bool,
    late: bool,
    new_database_url: Callable[[], str],
    rounds: Rounds,
    request: pytest.FixtureRequest,
) -> None:
    every = request.config.getoption("--full")
    for turn, chance in enumerate(rounds(3, full=HIGHEST), start=1):
        nth = turn if every else chance.randint(1, HIGHEST)
        failure = Failure(nth, lasting=lasting, late=late, name=chance.choice(list(SQLITE_ERRORS)))
        url = new_database_url()
        payloads = [payload_of(number) for number in range(BATCHES)]
        source = drain(url, payloads, failure)

        assert failure.failed > 0, nth
        assert source.too_early == [], nth
        assert source.held == [], nth
        assert stored_rows(url) == expected(*payloads), nth


def test_a_call_that_fails_in_the_daemon_stops_nothing(
    broker: Broker, database_url: str, tmp_path: Path, rounds: Rounds
) -> None:
    with running(broker, database_url, tmp_path / "log") as rig:
        for turn, chance in enumerate(rounds(1, full=20), start=1):
            rig.daemon.stop()
            command = (sys.executable, "-m", "tests.faults.failing_driver")
            rig.daemon.start(command, FAILING_CALL=str(chance.randint(1, HIGHEST)))
            rig.daemon.wait_for_log(SUBSCRIBED, times=turn + 1)
            rig.fleet.wait_for_more(100)
            rig.daemon.wait_for_log("FAILED", times=turn)
            rig.check_receiving()
        rig.check()
        rig.check_history()


def drain(url: str, payloads: list[bytes], failure: Failure) -> Witness:
    """Have the loop store all of `payloads`, with a driver that fails."""
    source, engine = Witness(url), writer_engine(url)
    install(failure, engine)
    source.on_wait = lambda seconds: mend_in_time(failure)
    upgrade_patiently(engine, failure)
    for payload in payloads:
        source.publish(TOPICS.batch("jetson_1"), payload, response_topic=TOPICS.reply("jetson_1"))
    ingest = Ingest(source=source, store=Store(engine), topics=TOPICS, report=Report())
    while source.held:
        ingest.step()
    engine.dispose()
    return source


def upgrade_patiently(engine: Engine, failure: Failure) -> None:
    """As the daemon does at its start."""
    while True:
        try:
            return upgrade(engine)
        except DBAPIError as error:
            if not is_temporary(error):
                raise
            mend_in_time(failure)


def mend_in_time(failure: Failure) -> None:
    if failure.failed >= ATTEMPTS:
        failure.mend()


def payload_of(number: int) -> bytes:
    people = {"anna": {"happy": float(number)}, f"only in {number}": {"sad": float(number)}}
    return encode("jetson_1", START + timedelta(seconds=number), people)


def expected(*payloads: bytes) -> dict[PersonKey, Row]:
    return expected_rows(Acknowledged(0, payload) for payload in payloads)
