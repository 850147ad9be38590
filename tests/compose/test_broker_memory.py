"""The broker's memory is full: it refuses batches, loses none that it acknowledged, and starts again with its store."""

import json
import time
from collections.abc import Iterator

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from shared.batch import encode
from tests.background import repeatedly
from tests.compose.project import Project
from tests.faults.history import START, TOPICS
from tests.waiting import wait_until

SHIPPED, SMALL = "base=524288", "base=65536"
"""512 MiB, and 64 MiB, which are full soon."""

LARGE = Properties(PacketTypes.PUBLISH)
LARGE.UserProperty = [("k", "v" * 60_000)] * 5
"""300 kB that no limit on payloads counts."""

NO_ROOM = "most=917504", "most=65536"
"""Then a broker that is full after its start cannot let the daemon in."""


@pytest.fixture(params=[False, True], ids=["with room for the start", "without room"])
def full(request: pytest.FixtureRequest, site: Project) -> Iterator[Project]:
    """A broker with little memory, a gate without limits, and no daemon."""
    start, settings = site.folder / "deploy" / "broker" / "start", site.folder / ".env"
    shipped = start.read_text()
    assert SHIPPED in shipped
    start.write_text(shipped.replace(SHIPPED, SMALL).replace(*(NO_ROOM if request.param else (SMALL, SMALL))))
    settings.write_text("DEVICE_BYTES_PER_SECOND=0\nADDRESS_BYTES_PER_SECOND=0\n")
    site.up()
    site.compose("restart", "mosquitto")
    site.up()
    site.compose("stop", "daemon")
    try:
        yield site
    finally:
        start.write_text(shipped)
        settings.unlink()
        site.compose("restart", "mosquitto")
        site.up()


def refused(site: Project, device_id: str) -> bool:
    return f"Client {device_id} " in "".join(
        line for line in site.compose("logs", "mosquitto").splitlines() if "out of memory" in line
    )


def test_a_full_broker_refuses_and_loses_nothing_that_it_acknowledged(full: Project) -> None:
    name = f"full_{time.time_ns()}"
    before = full.inspect("mosquitto")["RestartCount"]
    with full.client("victim") as victim, full.client(name) as attacker:
        people = iter(range(1_000_000))

        def publish() -> None:
            victim.send(TOPICS.batch("victim"), encode("victim", START, {f"{name} {next(people)}": {"happy": 1.0}}))

        def flood() -> None:
            if attacker.under_way < 20:
                attacker.send(TOPICS.batch(name), encode(name, START, {}), properties=LARGE)

        with repeatedly(publish, pause=0.05), repeatedly(flood, pause=0.01):
            wait_until(
                lambda: refused(full, name), seconds=120, pause=0.2, what="the broker refuses the attacker's messages"
            )
    acknowledged = [json.loads(payload)["people"][0]["person_id"] for payload in victim.acknowledged]

    full.crash("mosquitto")
    start = full.folder / "deploy" / "broker" / "start"
    if NO_ROOM[1] in start.read_text():
        # As docs/operate/limits.md has it for a broker that is full after its start.
        start.write_text(start.read_text().replace(NO_ROOM[1], NO_ROOM[0]))
        full.compose("up", "--detach", "--force-recreate", "mosquitto")
    full.up()

    def missing() -> set[str]:
        found = full.summary("victim")
        return {*acknowledged} - {person["person_id"] for person in (found or {"current_people": []})["current_people"]}

    assert acknowledged
    wait_until(lambda: not missing(), seconds=60, pause=1, what="every acknowledged batch is stored")
    state = full.inspect("mosquitto")
    assert state["RestartCount"] <= before + 1
    assert not state["State"]["OOMKilled"]
