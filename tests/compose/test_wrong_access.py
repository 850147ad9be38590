"""Row 17 of the faults again, against the broker that docker compose starts: who may not gets nothing in and out."""

from collections.abc import Iterator
from typing import Any, cast

import pytest

from shared.batch import encode
from tests.brokers import Broker
from tests.compose.project import Project
from tests.faults.history import START, TOPICS
from tests.faults.intruders import Intruder
from tests.faults.test_17_access import BATCH, DAEMON, EVIL, FILTERS, LOGINS, PUBLICATIONS, THIEF, VICTIM, VICTIMS
from tests.waiting import wait_until


class Attacked:
    """The project, one device that may, and one that is after it."""

    def __init__(self, site: Project) -> None:
        self._site = site
        self._number = 0
        self.broker = cast(Broker, site)
        for device_id in (VICTIM, THIEF):
            if device_id not in site.passwords:
                site.add_device(device_id)
        self.victim = Intruder(self.broker, VICTIM, site.passwords[VICTIM], client_id=VICTIM)

    def thief(self, **how: Any) -> Intruder:
        return Intruder(self.broker, THIEF, self._site.passwords[THIEF], **how)

    def check(self) -> None:
        """The victim gets a batch through; nothing of what is evil is stored, refused or delivered to it."""
        self._number += 1
        person = f"person {self._number}"
        self.victim.publish(VICTIMS, encode(VICTIM, START, {person: {"happy": 1.0}}))
        wait_until(lambda: person in self._people(VICTIM), seconds=30, what="a device that may gets its batch through")
        assert not [person for device in (VICTIM, "jetson_9") for person in self._people(device) if person == "evil"]
        assert not [seen for seen in self.victim.seen if EVIL in seen[1]]

    def rejected(self) -> str:
        return self._site.compose("exec", "-T", "daemon", "python3", "-m", "emotion_daemon", "rejected")

    def _people(self, device_id: str) -> list[str]:
        found = self._site.summary(device_id)
        return [person["person_id"] for person in found["current_people"]] if found else []


@pytest.fixture(scope="module")
def attacked(site: Project) -> Iterator[Attacked]:
    attacked = Attacked(site)
    with attacked.victim as victim:
        victim.subscribe(TOPICS.reply(VICTIM))
        yield attacked
    assert "no rejected messages" in attacked.rejected()


@pytest.mark.parametrize("login", LOGINS.values(), ids=LOGINS.keys())
def test_who_has_no_valid_login_is_not_let_in(login: tuple[str | None, str | None], attacked: Attacked) -> None:
    with Intruder(attacked.broker, *login) as intruder:
        assert not intruder.let_in


def test_a_device_publishes_nothing_but_its_own(attacked: Attacked) -> None:
    for publish in PUBLICATIONS.values():
        with attacked.thief() as thief:
            publish(thief)
    for topic in (VICTIMS, TOPICS.status(VICTIM), TOPICS.status(DAEMON), TOPICS.reply(VICTIM)):
        with attacked.thief(will=(topic, BATCH, True)) as thief:
            thief.drop()

    attacked.check()


def test_a_device_hears_nothing_of_another(attacked: Attacked) -> None:
    with attacked.thief() as thief:
        for topic_filter in FILTERS:
            thief.subscribe(topic_filter)
        attacked.check()
        thief.publish(TOPICS.status(THIEF), b"online")  # once this is answered, all before it was delivered

        assert thief.seen == []


@pytest.mark.parametrize("client_id", [DAEMON, VICTIM, "health"])
def test_a_client_id_takes_nobody_s_session(client_id: str, attacked: Attacked) -> None:
    with attacked.thief(client_id=client_id) as thief:
        thief.subscribe("#")
        attacked.check()

        assert thief.seen == []
        assert not attacked.victim.ended
