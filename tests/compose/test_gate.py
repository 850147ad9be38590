"""The gate slows down a device that sends too much, loses nothing of it, and leaves the others alone."""

import re
import socket
import time

import pytest

from shared.batch import encode
from tests.compose.project import Project
from tests.faults.history import START, TOPICS
from tests.waiting import wait_until

DEVICE_BYTES_PER_SECOND = 131_072

BATCH = encode("backlog", START, {f"{number:0128}": {"happy": 1.0} for number in range(350)})
"""About 64 KiB."""

BACKLOG = 20
"""So many of them take 10 seconds at 128 KiB a second."""


def backlog_seconds(site: Project) -> float:
    """Seconds until the broker has acknowledged the backlog of one device."""
    with site.client("backlog") as device:
        since = time.monotonic()
        for _ in range(BACKLOG):
            device.send(TOPICS.batch("backlog"), BATCH)
        wait_until(lambda: not device.under_way, seconds=60, what="the backlog is acknowledged")
        return time.monotonic() - since


def test_a_backlog_is_slowed_down_and_not_refused(site: Project) -> None:
    allowed = BACKLOG * len(BATCH) / DEVICE_BYTES_PER_SECOND

    assert 0.8 * allowed < backlog_seconds(site) < 3 * allowed


def test_a_device_is_acknowledged_at_once_while_another_sends_too_much(site: Project) -> None:
    topic, slowest = TOPICS.batch("prompt"), 0.0
    with site.client("backlog") as greedy, site.client("prompt") as prompt:
        for _ in range(BACKLOG):
            greedy.send(TOPICS.batch("backlog"), BATCH)
        while greedy.under_way:
            since = time.monotonic()
            prompt.publish(topic, encode("prompt", START, {"1": {"happy": 1.0}}))
            slowest = max(slowest, time.monotonic() - since)
            time.sleep(0.1)

    assert slowest < 1


def test_two_lines_in_env_change_the_limits(site: Project) -> None:
    """Without a limit of a device its backlog is quick. An address above its bytes gets no new connection meanwhile."""
    (site.folder / ".env").write_text("DEVICE_BYTES_PER_SECOND=0\nADDRESS_BYTES_PER_SECOND=65536\n")
    site.up()
    try:
        assert backlog_seconds(site) < 0.5 * BACKLOG * len(BATCH) / DEVICE_BYTES_PER_SECOND
        assert not gets_in(site)
        wait_until(lambda: gets_in(site), what="the address gets connections again")
    finally:
        (site.folder / ".env").unlink()
        site.up()


@pytest.mark.parametrize("name", ["DEVICE_BYTES_PER_SECOND", "ADDRESS_BYTES_PER_SECOND"])
@pytest.mark.parametrize("value", ["1e6", "-1", " 5000", "many"])
def test_the_gate_refuses_what_is_no_whole_number(site: Project, name: str, value: str) -> None:
    check = ("gate", "haproxy", "-c", "-f", "/usr/local/etc/haproxy/haproxy.cfg")
    said = site.run("docker", "compose", "run", "--rm", "--no-deps", "--env", f"{name}={value}", *check, expect=1)

    assert "[ALERT]" in said


def gets_in(site: Project) -> bool:
    """Return True if the gate leaves a new connection open."""
    with socket.create_connection((site.host, site.port), timeout=0.5) as connection:
        try:
            return connection.recv(1) != b""  # the broker sends no byte before a CONNECT
        except TimeoutError:
            return True
        except OSError:
            return False


def test_the_two_logs_say_where_a_device_came_from(site: Project) -> None:
    with site.client("logged") as device:
        device.publish(TOPICS.batch("logged"), encode("logged", START, {}))
    (at_the_broker,) = re.findall(r"connected from (\S+) as logged ", site.compose("logs", "--no-color", "mosquitto"))

    wait_until(
        lambda: re.search(rf"[\d.]+:\d+, for the broker {at_the_broker}: \d+ bytes", site.compose("logs", "gate")),
        what="the gate names both addresses",
    )
