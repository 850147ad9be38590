"""The daemon posts to a webhook: a device that falls silent and returns, and a threshold. The ingest never waits."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from shared.batch import encode
from tests.brokers import Broker
from tests.clients import Client
from tests.faults.history import START, TOPICS, stored_rows
from tests.faults.rig import SUBSCRIBED
from tests.processes import Daemon
from tests.receivers import Receiver
from tests.waiting import wait_until

RULES = """
[[rule]]
name = "Queue"
measure = "people"
above = 2
seconds = 1
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def test_silence_return_and_a_threshold_are_posted(
    broker: Broker, sqlite_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    settings = {
        "EMOTION_WEBHOOK_URL": receiver.url,
        "EMOTION_ALERT_RULES": str(tmp_path / "rules.toml"),
        "EMOTION_SILENT_AFTER_SECONDS": "4",
    }
    with Daemon(broker, sqlite_url, tmp_path / "log", **settings) as daemon, Client(broker, "jetson_1") as client:
        daemon.wait_for_log(SUBSCRIBED)
        receiver.status = 500

        numbers = count(1)

        def send() -> None:
            number = next(numbers)
            people = {str(each): {"happy": float(number)} for each in range(3)}
            client.send(TOPICS.batch("jetson_1"), encode("jetson_1", START + timedelta(seconds=number), people))
            client.wait_for_pubacks()

        def is_told(*wanted: str) -> bool:
            send()
            return set(wanted) <= set(events(receiver))

        send()
        send()
        wait_until(lambda: len(stored_rows(sqlite_url)) == 3, what="the ingest does not wait for the receiver")
        wait_until(lambda: len(receiver.posts) >= 2, what="the refused alert is posted again")
        assert receiver.posts[0].body == receiver.posts[1].body
        receiver.status = 204
        wait_until(lambda: "device_silent" in events(receiver), what="the silence is posted")
        wait_until(lambda: is_told("device_returned", "rule_began"), pause=0.5, what="return and threshold are posted")

    began = next(alert for alert in receiver.alerts if alert["event"] == "rule_began")
    assert (began["rule"], began["value"]) == ("Queue", 3)


def events(receiver: Receiver) -> list[str]:
    return [alert["event"] for alert in receiver.alerts]
