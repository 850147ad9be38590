"""Devices that do no harm while another attacks, and the check that the attack has done none to them.

`withstand` is the same for each system: docker compose, scripts/run, and the configuration for systemd.
"""

import math
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import NamedTuple, cast

import pytest

from shared.batch import encode
from tests.background import repeatedly
from tests.brokers import Broker
from tests.clients import Client
from tests.faults.attacks import Attack, groups
from tests.faults.history import ALONE, ALWAYS, START, TOPICS, Acknowledged, PersonKey, Row, expected_rows
from tests.faults.rig import RECEIVING_AGAIN_SECONDS
from tests.waiting import slowness, wait_until

BYSTANDERS = tuple(f"bystander_{number}" for number in range(1, 6))

PUBACK_SECONDS = 1.0
"""99 of 100 batches of others are acknowledged within this, unless a flood comes from this machine itself."""

BROKER_BYTES = 2**30
"""The broker's memory stays below this; under systemd below half of it. See docs/operate/limits.md."""

DRAINED_SECONDS = 300.0
"""The daemon stores the backlog of an attack without a rate limit within this."""

DEAD_LETTERS = "SELECT count(*) FROM rejected_message WHERE topic LIKE 'emotions/{}/%'"
"""The number of dead letters of one device."""

REVISION = "SELECT coalesce(sum(revision), 0) FROM device_state"
"""Grows with each group that the daemon commits."""

DATABASE_BYTES = 2**30
"""An attack adds less than this to the database."""


class Site(ABC):
    """A system with an attacker and bystanders; `host` and `port` are the broker's, as in tests.brokers."""

    host = "127.0.0.1"
    port: int
    password: str | None = None
    ca: Path | None = None
    broker_bytes: int = BROKER_BYTES

    @abstractmethod
    def add_device(self, device_id: str) -> str:
        """Make a login and return its password."""

    @abstractmethod
    def remove_device(self, device_id: str) -> None:
        """Do what docs/runbooks/EmotionDeviceFloods.md says about a stolen login."""

    @abstractmethod
    def traces(self, device_id: str) -> list[str]:
        """Return what is left of the device in secrets, broker and dead letters."""

    @abstractmethod
    def stop_daemon(self) -> None:
        """Have the daemon receive nothing."""

    @abstractmethod
    def start_daemon(self) -> None:
        """Have it receive again."""

    @abstractmethod
    def processes(self) -> dict[str, object]:
        """For each process that runs what changes if it is started again."""

    @abstractmethod
    def broker_memory(self) -> int:
        """The most bytes that the broker has had resident."""

    @abstractmethod
    def broker_disk(self) -> int:
        """Bytes of the broker's store."""

    @abstractmethod
    def database_disk(self) -> int:
        """Bytes of the database's files."""

    @abstractmethod
    def rows(self) -> dict[PersonKey, Row]:
        """Return the stored rows of the bystanders."""

    @abstractmethod
    def query(self, statement: str) -> str:
        """Return the one value that a statement selects."""

    @abstractmethod
    def integrity(self) -> str:
        """Return the result of SQLite's own check, "ok" if it found nothing."""


class Timing(NamedTuple):
    """The seconds that one batch took; infinite if the answer has not come."""

    puback: float
    reply: float


class Bystander:
    """A device that publishes a batch a second and asks for replies, from the start of the block to its end."""

    def __init__(self, site: Site, device_id: str, password: str) -> None:
        self._device_id = device_id
        self._client = Client(cast(Broker, site), device_id, password=password)
        self._sent: dict[bytes, float] = {}
        self._block = ExitStack()

    def __enter__(self) -> "Bystander":
        with ExitStack() as block:
            block.enter_context(self._client)
            self._client.listen(TOPICS.reply(self._device_id))
            block.enter_context(repeatedly(self._publish, pause=1.0))
            self._block = block.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._block.close()

    @property
    def history(self) -> list[Acknowledged]:
        return [Acknowledged(*entry) for entry in self._client.history]

    def timings(self, since: float, until: float) -> list[Timing]:
        """Of each batch that was sent between the two."""
        acknowledged = {payload: at for at, payload in self._client.history}
        answered = {seen.correlation_data: seen.at for seen in self._client.seen}
        return [
            Timing(
                acknowledged.get(payload, math.inf) - at,
                answered.get(str(number).encode(), math.inf) - at,
            )
            for number, (payload, at) in enumerate([*self._sent.items()], start=1)
            if since <= at <= until
        ]

    def _publish(self) -> None:
        number = len(self._sent) + 1
        people = {ALWAYS: {"neutral": float(number)}, f"{ALONE} {number}": {"happy": number / 8, "sad": 1.0}}
        payload = encode(self._device_id, START + timedelta(seconds=number), people)
        self._sent[payload] = monotonic()
        self._client.send(
            TOPICS.batch(self._device_id),
            payload,
            response_topic=TOPICS.reply(self._device_id),
            correlation_data=str(number).encode(),
        )


@contextmanager
def bystanders(site: Site) -> Iterator[list[Bystander]]:
    """Five devices, each with its own login, that publish during the block."""
    with ExitStack() as stack:
        yield [stack.enter_context(Bystander(site, device_id, site.add_device(device_id))) for device_id in BYSTANDERS]


def withstand(attacks: Sequence[Attack], site: Site, others: list[Bystander], *, seconds: float, limited: bool) -> None:
    """Run the attacks with one login, and check that no other device is harmed and that nothing remains of the login.

    If the attacker's rate is `limited`, a batch of another device is also stored within ten seconds after the attack.
    Otherwise the daemon receives again by then, but may have a backlog.
    """
    attacker = f"attacker_{secrets.token_hex(3)}"
    password = site.add_device(attacker)

    for attack in attacks:
        timings = endure(attack, site, others, (attacker, password), seconds=seconds)
        if limited or not attack.floods:
            assert percentile_99(timings.pubacks) < PUBACK_SECONDS * timings.slowness, attack.name
        if limited:
            assert timings.answered_again < RECEIVING_AGAIN_SECONDS * timings.slowness, attack.name

    wait_until(lambda: not difference(site, others), pause=0.2, what="what was acknowledged is stored, and no more")
    assert site.integrity() == "ok"

    site.remove_device(attacker)

    wait_until(lambda: site.traces(attacker) == [], seconds=10, what="nothing is left of the attacker")


class Timings(NamedTuple):
    """Seconds of the others, sorted, until PUBACK and reply; until each had a reply again after the attack's end."""

    pubacks: list[float]
    replies: list[float]
    answered_again: float
    slowness: float


def endure(attack: Attack, site: Site, others: list[Bystander], login: tuple[str, str], *, seconds: float) -> Timings:
    """Attack, and check that no process was started again, that memory and disk are bounded, and that it is over."""
    slow, database_before = slowness(), site.database_disk()
    if attack.stopped:
        site.stop_daemon()
    before, began = site.processes(), monotonic()

    sent = attack.start(site.host, site.port, *login, seconds=seconds).wait()
    wait_until(
        lambda: all(other.timings(began, math.inf) for other in others), what="each of the others has sent a batch"
    )

    ended = monotonic()
    if attack.stopped:
        site.start_daemon()
    revision = int(site.query(REVISION))
    wait_until(
        lambda: int(site.query(REVISION)) > revision, seconds=RECEIVING_AGAIN_SECONDS, what="the daemon receives again"
    )
    answered_again = until_answered(others, since=ended)
    during = [timing for other in others for timing in other.timings(began, ended)]
    pubacks, replies = (sorted(each) for each in zip(*during, strict=True))
    used = Used(site.broker_memory(), site.broker_disk(), site.database_disk() - database_before)
    print(f"{attack.name}: {sent}\n{used.in_words()}; answered again after {answered_again:.1f} s")
    print(f"PUBACK {in_words(pubacks)}; reply {in_words(replies)}")
    after = site.processes()
    assert {name: after.get(name) for name in before} == before, f"{attack.name}: no process was started again"
    assert used.broker_memory < site.broker_bytes, attack.name
    assert used.broker_disk < 2 * site.broker_bytes, attack.name
    assert used.database < DATABASE_BYTES, attack.name
    return Timings(pubacks, replies, answered_again, slow)


class Used(NamedTuple):
    """Bytes, after an attack; `database` are those that it has added."""

    broker_memory: int
    broker_disk: int
    database: int

    def in_words(self) -> str:
        return ", ".join(f"{name} {value / 2**20:.0f} MiB" for name, value in self._asdict().items())


def until_answered(others: list[Bystander], *, since: float) -> float:
    """Wait until each device has a reply to a batch that it sent after `since`; return the seconds that this took.

    All that was sent before is then stored, as the daemon takes it in turn.
    """
    wait_until(
        lambda: all(any(timing.reply < math.inf for timing in other.timings(since, math.inf)) for other in others),
        seconds=DRAINED_SECONDS,
        what="others are answered again",
    )
    return monotonic() - since


def difference(site: Site, others: list[Bystander]) -> dict[PersonKey, tuple[Row | None, Row | None]]:
    """Return each person whose stored row differs from the acknowledged one, with both rows."""
    expected = expected_rows(entry for other in others for entry in other.history)
    stored = site.rows()
    return {
        key: (expected.get(key), stored.get(key))
        for key in expected.keys() | stored.keys()
        if expected.get(key) != stored.get(key)
    }


def percentile_99(values: list[float]) -> float:
    """Of sorted values; of fewer than 100 the largest."""
    return values[math.ceil(0.99 * len(values)) - 1]


def in_words(values: list[float]) -> str:
    return f"median {values[len(values) // 2]:.3f} s, p99 {percentile_99(values):.3f} s, worst {values[-1]:.3f} s"


def each_attack(metafunc: pytest.Metafunc) -> None:
    """Run the tests of a module, whose `pytest_generate_tests` this is, once for each group of attacks."""
    made = groups(full=metafunc.config.getoption("--full"))
    metafunc.parametrize("attacks", made, ids=[f"{len(group)} {group[0].name}".replace(" ", "-") for group in made])
