"""Under load: logins change, containers are restarted and killed, taken down and up. Nothing acknowledged is lost."""

import json
import math
import secrets
import time
from collections.abc import Iterator
from typing import cast

import pytest

from tests.brokers import Broker
from tests.compose.project import SERVICES, Project
from tests.faults.history import Fleet, expected_rows
from tests.faults.rig import Moment
from tests.waiting import wait_until

LAST_MOMENT_SECONDS = 2.0
"""Seconds of batches that a killed broker may have acknowledged and lost."""


@pytest.fixture
def device() -> str:
    """Another one for each test: what was stored in the test before would hide what is lost in this one."""
    return f"camera_{secrets.token_hex(4)}"


@pytest.fixture
def fleet(site: Project, device: str) -> Iterator[Fleet]:
    """One device that publishes all the time, with a person in each batch that no other batch has."""
    site.add_device(device)
    broker = cast(Broker, site)
    broker.password = site.passwords[device]
    with Fleet(broker, pace=0.01, client_id=device, devices=[device]) as fleet:
        fleet.wait_for_more(50)
        yield fleet


def check(site: Project, fleet: Fleet, *, lost_moment: Moment | None = None) -> None:
    """Every person who was acknowledged is served with the values of the newest batch.

    Those who were acknowledged in the `lost_moment` of a killed broker may be missing.
    """
    fleet.wait_for_more(50)
    fleet.finish()
    expected = expected_rows(fleet.history)
    (device,) = {device_id for device_id, _ in expected}
    since, until = lost_moment or (math.inf, math.inf)
    excused = expected_rows(entry for entry in fleet.history if since < entry.at < until)

    def wrong() -> list[str]:
        served = {person["person_id"]: person["time_happy"] for person in site.summary(device)["current_people"]}
        return [key[1] for key, row in expected.items() if served.get(key[1]) != row.happy and key not in excused]

    wait_until(lambda: site.summary(device) is not None and not wrong(), pause=1, what="all is served")


@pytest.mark.parametrize(
    "damage",
    ["head -c 90000 /dev/zero >F; rm -f F-*", "truncate -s 5000 F; rm -f F-*"],
    ids=["zeros", "cut off"],
)
def test_a_damaged_state_of_the_broker_is_set_aside(site: Project, device: str, damage: str) -> None:
    """As a power cut leaves it; with an intact -wal, SQLite mends the file itself."""
    site.add_device(device)
    site.compose("stop", "mosquitto")
    volume = f"{site.name}_broker:/mosquitto/data"
    command = damage.replace("F", "/mosquitto/data/mosquitto.sqlite3")
    site.run("docker", "run", "--rm", "--user=1883:1883", "--volume", volume, site.name, "sh", "-euc", command)
    before = site.logs().count("the broker's stored state was damaged")

    site.compose("start", "mosquitto")

    wait_until(
        lambda: site.inspect("mosquitto")["State"]["Health"]["Status"] == "healthy",
        pause=1,
        what="the broker is healthy",
    )

    def is_stored() -> bool:  # the broker drops batches until the daemon, whose session is lost, has subscribed again
        site.publish(device, 5.0)
        return site.happy(device) == 5.0

    wait_until(is_stored, pause=1, what="a batch is in the summary")
    assert site.logs().count("the broker's stored state was damaged") == before + 1
    findings = json.loads(site.run("scripts/doctor", "--json"))["findings"]
    assert any(found["subject"] == "broker state" and "sqlite3.damaged-" in found["found"] for found in findings)
    site.compose("stop", "mosquitto")
    listed = site.run("bash", "-c", ". scripts/lib/deployment.sh; SYSTEM=compose; set_aside_by_broker")
    site.up()
    assert "/mosquitto/data/mosquitto.sqlite3.damaged-" in listed, "also while the broker is stopped"


def test_restart(site: Project, fleet: Fleet) -> None:
    site.compose("restart")
    site.up()

    check(site, fleet)


def test_a_change_of_logins_disturbs_nobody(site: Project, fleet: Fleet, device: str) -> None:
    before = site.logs().count("subscribed to emotions/+/batch")
    site.add_device(f"{device}_other")
    site.run("scripts/device", "remove", f"{device}_other")

    check(site, fleet)
    assert site.logs().count("subscribed to emotions/+/batch") == before, "the daemon stayed connected"


@pytest.mark.parametrize("service", SERVICES)
def test_each_has_the_time_to_end_by_itself(site: Project, fleet: Fleet, service: str) -> None:
    site.compose("stop", service)
    ended = site.inspect(service)["State"]
    site.up()

    check(site, fleet)
    assert (ended["ExitCode"], ended["OOMKilled"]) == (0, False)


@pytest.mark.parametrize("service", SERVICES)
def test_kill(site: Project, fleet: Fleet, service: str) -> None:
    since = time.monotonic() - LAST_MOMENT_SECONDS
    site.compose("kill", "-s", "KILL", service)
    lost_moment = since, time.monotonic()
    fleet.wait_for_more(0 if service in ("gate", "mosquitto") else 50)
    site.up()

    check(site, fleet, lost_moment=lost_moment if service == "mosquitto" else None)


def test_down_and_up_with_messages_waiting(site: Project, fleet: Fleet) -> None:
    site.compose("stop", "daemon")
    fleet.wait_for_more(200)
    site.compose("down")
    site.up()

    check(site, fleet)


@pytest.mark.parametrize("service", SERVICES)
def test_what_dies_comes_back_by_itself(site: Project, fleet: Fleet, service: str) -> None:
    before = site.inspect(service)["State"]["StartedAt"]
    since = time.monotonic() - LAST_MOMENT_SECONDS
    site.crash(service)
    lost_moment = since, time.monotonic()
    wait_until(
        lambda: site.inspect(service)["State"]["StartedAt"] != before, seconds=60, pause=1, what="it is started again"
    )

    check(site, fleet, lost_moment=lost_moment if service == "mosquitto" else None)
