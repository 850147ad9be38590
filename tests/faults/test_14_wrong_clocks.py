"""Clocks an hour and a year off, ahead and behind: a device's, and the daemon's own while it runs."""

from datetime import UTC, datetime, timedelta
from itertools import count, cycle
from pathlib import Path

from sqlalchemy import select

from shared.batch import encode
from shared.schema import device
from tests.brokers import Broker
from tests.clients import Client
from tests.databases import reading
from tests.faults.clocks import RIGHT, Clock
from tests.faults.conftest import Rounds
from tests.faults.history import TOPICS, stored_rows
from tests.faults.rig import MAX_RESIDENT_BYTES, SUBSCRIBED, integrity
from tests.processes import Daemon
from tests.waiting import wait_until

HOUR, YEAR = timedelta(hours=1), timedelta(days=365)
LONG_AGO = datetime(1970, 1, 1, 0, 0, 10, tzinfo=UTC)


class Camera:
    """A device that sees one person, whose seconds say which batch was the last one that counted."""

    def __init__(self, client: Client, url: str, device_id: str) -> None:
        self._client = client
        self._url = url
        self._device_id = device_id
        self._numbers = count(1)

    def publish(self, stamp: datetime) -> int:
        """A batch that says it is from `stamp`; returns its number."""
        number = next(self._numbers)
        payload = encode(self._device_id, stamp, {"anna": {"happy": number}})
        self._client.publish(TOPICS.batch(self._device_id), payload)
        return number

    def stored(self, stamp: datetime) -> datetime:
        """Publish a batch that says it is from `stamp`, and return the time that it is stored with."""
        number = self.publish(stamp)
        wait_until(lambda: self.last_number() == number, what=f"{self._device_id}'s batch is stored")
        last_seen = stored_rows(self._url)[self._device_id, "anna"].last_seen
        assert updated_at(self._url, self._device_id) == last_seen
        return last_seen

    def last_number(self) -> int | None:
        row = stored_rows(self._url).get((self._device_id, "anna"))
        return None if row is None else round(row.happy)


def updated_at(url: str, device_id: str) -> datetime | None:
    with reading(url) as connection:
        return connection.scalar(select(device.c.updated_at).where(device.c.device_id == device_id))


def test_a_device_whose_clock_cannot_be_right_is_stored_with_the_time_of_arrival(
    broker: Broker, sqlite_url: str, tmp_path: Path
) -> None:
    with Daemon(broker, sqlite_url, tmp_path / "log") as daemon, Client(broker) as client:
        daemon.wait_for_log(SUBSCRIBED)
        for name, ahead in {"hour": HOUR, "year": YEAR, "1970": LONG_AGO - now()}.items():
            camera = Camera(client, sqlite_url, name)
            camera.stored(now())
            began = now()
            arrivals = [camera.stored(now() + ahead) for _ in range(3)]
            right_again = now()

            assert [began, *arrivals, right_again] == sorted([began, *arrivals, right_again]), name
            assert camera.stored(right_again) == right_again, name
            assert daemon.log().count(f"the clock of {name} is off by") == 1


def test_a_device_whose_clock_is_behind_is_stored_with_its_stamps_and_later_with_the_right_ones(
    broker: Broker, sqlite_url: str, tmp_path: Path
) -> None:
    with Daemon(broker, sqlite_url, tmp_path / "log") as daemon, Client(broker) as client:
        daemon.wait_for_log(SUBSCRIBED)
        for name, behind in {"hour": HOUR, "year": YEAR}.items():
            camera = Camera(client, sqlite_url, name)
            stamps = [now() - behind, now() - behind + timedelta(seconds=1), now()]
            stored = [camera.stored(stamp) for stamp in stamps]
            camera.publish(now() - behind)  # set back: no newer than any batch that is late
            right_again = now()

            assert stored == stamps, name
            assert camera.stored(right_again) == right_again, name


def test_the_daemons_clock_jumps_and_comes_back(
    broker: Broker, database_url: str, tmp_path: Path, rounds: Rounds
) -> None:
    clock = Clock(tmp_path)
    with Daemon(broker, database_url, tmp_path / "log", **clock.settings) as daemon, Client(broker) as client:
        daemon.wait_for_log(SUBSCRIBED)
        right, without_battery = (Camera(client, database_url, name) for name in ("right", "without_battery"))
        for off, chance in zip(cycle([HOUR, -HOUR, YEAR, -YEAR]), rounds(4, full=40), strict=False):
            for clock_off in (off, chance.choice([off, -off]), RIGHT):
                clock.set(clock_off)
                stamp, began = now(), clock.now()
                stored, of_arrival = right.stored(stamp), without_battery.stored(LONG_AGO)

                assert stored == stamp if clock_off >= RIGHT else began <= stored <= clock.now()
                assert began <= of_arrival <= clock.now()

        assert integrity(database_url) == "ok"
        assert daemon.peak_memory() < MAX_RESIDENT_BYTES


def now() -> datetime:
    return datetime.now(UTC)
