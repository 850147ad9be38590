"""Row 17 of the faults again, against the broker that docker compose starts, without TLS and with it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from shared.batch import encode
from tests.brokers import Broker
from tests.certificates import make_certificate
from tests.compose.project import Project
from tests.faults.history import START, TOPICS
from tests.faults.intruders import ONLOOKER, Intruder
from tests.faults.test_17_access import (
    BATCH,
    DAEMON,
    EVIL,
    FILTERS,
    LOGINS,
    PUBLICATIONS,
    REFUSED,
    THIEF,
    VICTIM,
    VICTIMS,
)
from tests.waiting import wait_until


class Attacked:
    """The project, one device that may, one that is after it, and an onlooker who is delivered all there is."""

    def __init__(self, site: Project, ca: Path | None) -> None:
        self.site = site
        self._ca = ca
        self._number = 0
        for login in (VICTIM, THIEF, ONLOOKER):
            if login not in site.passwords:
                site.add_device(login)
        site.allow_listening(ONLOOKER)
        self.victim = self.client(VICTIM)
        self.onlooker = self.client(ONLOOKER)

    def intruder(self, *login: str | None, **how: Any) -> Intruder:
        return Intruder(cast(Broker, self.site), *login, ca=self._ca, **how)

    def client(self, name: str) -> Intruder:
        return self.intruder(name, self.site.passwords[name], client_id=name)

    def thief(self, **how: Any) -> Intruder:
        """A device that may connect, and publish as itself."""
        return self.intruder(THIEF, self.site.passwords[THIEF], **how)

    def send_good(self) -> str:
        """The victim publishes a batch; returns the person who is in it."""
        self._number += 1
        person = f"person {self._number}"
        self.victim.publish(VICTIMS, encode(VICTIM, START, {person: {"happy": 1.0}}))
        return person

    def check(self) -> None:
        """The victim gets a batch through; of what is evil nothing is stored, refused or delivered."""
        person = self.send_good()
        wait_until(lambda: person in self.people(VICTIM), what="a device that may gets its batch through")
        assert "evil" not in self.people(VICTIM) + self.people("jetson_9")
        assert not [seen for seen in self.victim.seen + self.onlooker.seen if EVIL in seen[1]]

    def rejected(self) -> str:
        return self.site.compose("exec", "-T", "daemon", "python3", "-m", "emotion_admin", "dead-letters", "list")

    def people(self, device_id: str) -> list[str]:
        found = self.site.summary(device_id)
        return [person["person_id"] for person in found["current_people"]] if found else []


@pytest.fixture(scope="module", params=["plain", "TLS"])
def attacked(
    request: pytest.FixtureRequest, site: Project, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Attacked]:
    made = make_certificate(tmp_path_factory.mktemp("ca")) if request.param == "TLS" else None
    if made is not None:
        site.run("scripts/tls", "on", str(made.certificate), str(made.key))
    attacked = Attacked(site, None if made is None else made.ca)
    try:
        with attacked.victim as victim, attacked.onlooker as onlooker:
            victim.subscribe(TOPICS.reply(VICTIM))
            onlooker.subscribe("#")
            yield attacked
        assert "no rejected messages" in attacked.rejected()
    finally:
        if made is not None:
            site.run("scripts/tls", "off")


@pytest.mark.parametrize("login", LOGINS.values(), ids=LOGINS.keys())
def test_who_has_no_valid_login_is_not_let_in(login: tuple[str | None, str | None], attacked: Attacked) -> None:
    with attacked.intruder(*login) as intruder:
        assert not intruder.let_in


def test_the_onlooker_hears_what_gets_through(attacked: Attacked) -> None:
    with attacked.thief() as thief:
        thief.publish(TOPICS.status(THIEF), b"online")

    wait_until(lambda: (TOPICS.status(THIEF), b"online") in attacked.onlooker.seen, what="the onlooker hears of it")


@pytest.mark.parametrize("publish", PUBLICATIONS.values(), ids=PUBLICATIONS.keys())
def test_a_device_publishes_nothing_but_its_own(publish: Any, attacked: Attacked) -> None:
    with attacked.thief() as thief:
        assert thief.let_in
        publish(thief)

    attacked.check()


@pytest.mark.parametrize("topic", [VICTIMS, TOPICS.status(VICTIM), TOPICS.status(DAEMON), TOPICS.reply(VICTIM)])
def test_a_will_goes_to_no_topic_of_anothers(topic: str, attacked: Attacked) -> None:
    with attacked.thief(will=(topic, BATCH, True)) as thief:
        assert thief.let_in
        thief.drop()

    attacked.check()


@pytest.mark.parametrize("topic_filter", FILTERS)
def test_a_device_hears_nothing_of_another(topic_filter: str, attacked: Attacked) -> None:
    with attacked.thief() as thief:
        assert thief.let_in
        assert thief.subscribe(topic_filter) in REFUSED
        attacked.check()
        thief.publish(TOPICS.status(THIEF), b"online")  # once this is answered, all before it was delivered

        assert thief.seen == []


@pytest.mark.parametrize("client_id", [DAEMON, VICTIM, "health"])
def test_a_client_id_takes_nobody_s_session(client_id: str, attacked: Attacked) -> None:
    attacked.site.compose("stop", "daemon")
    waiting = {attacked.send_good() for _ in range(20)}
    with attacked.thief(client_id=client_id) as thief:
        assert thief.let_in
        thief.subscribe("#")
        attacked.site.compose("start", "daemon")
        wait_until(lambda: waiting <= {*attacked.people(VICTIM)}, what="all that waited is stored")
        attacked.check()

        assert thief.seen == []
        assert not attacked.victim.ended
