"""A clock that is wrong, devices that are silent, messages that are rejected."""

import json
import subprocess
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, select

from emotion_admin.doctor import clock, devices
from emotion_admin.doctor.devices import DeviceStates
from emotion_admin.doctor.finding import Finding, ok
from emotion_daemon.rules.outcome import Rejected
from emotion_daemon.storage.file_lock import only_one
from emotion_daemon.storage.store import Store
from shared.batch import Topics, encode
from shared.database import sqlite_path
from shared.schema import device_state
from tests.brokers import Broker
from tests.databases import migrated, reading
from tests.faults.clocks import Clock
from tests.faults.intruders import Intruder
from tests.integration.emotion_admin.doctor.examining import answering, examined
from tests.processes import ADMIN, ROOT, Daemon, environment, without_settings
from tests.waiting import wait_until

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def heard(engine: Engine, device_id: str, at: datetime, *, skew: float = 0, offset: float | None = None) -> None:
    clock_columns = {"clock_skew": skew, "clock_offset": offset}
    values = {"device_id": device_id, "received_at": at, "people": 1, **clock_columns}
    with engine.begin() as connection:
        connection.execute(insert(device_state).values(values))


def stored(url: str) -> int:
    with reading(url) as connection:
        return connection.scalar(select(func.count()).select_from(device_state)) or 0


def doctor(environ: dict[str, str]) -> dict[str, Any]:
    """The findings by subject of a process that has a clock of its own."""
    result = subprocess.run(
        [*ADMIN, "doctor", "--json"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return {one["subject"]: one for one in json.loads(result.stdout)["findings"]}


def a_daemon_of(url: str) -> AbstractContextManager[None]:
    """On PostgreSQL doctor cannot tell if one runs."""
    path = sqlite_path(url)
    return nullcontext() if path is None else only_one(path)


class TestClock:
    @pytest.mark.program
    def test_a_clock_without_a_battery(self, sqlite_url: str, tmp_path: Path) -> None:
        faketime = Clock(tmp_path)
        faketime.set(datetime(2019, 1, 1, 12, tzinfo=UTC) - datetime.now(UTC))
        settings = {"EMOTION_DATABASE_URL": sqlite_url, "EMOTION_MQTT_HOST": "127.0.0.1", "EMOTION_MQTT_PORT": "1"}
        found = doctor(without_settings() | faketime.settings | settings)[clock.SUBJECT]

        assert found["level"] == "problem"
        assert "2019-01-01" in found["found"]

    @pytest.mark.parametrize(
        ("state", "status", "is_synchronised"), [(0, 0x2001, "yes"), (5, 0x40, "no"), (0, 0x40, "no")]
    )
    def test_the_kernel_says_whether_it_is_synchronised(self, state: int, status: int, is_synchronised: str) -> None:
        assert clock.read_state(state, status) == is_synchronised

    def test_where_the_kernel_may_not_be_asked_nobody_can_tell(self) -> None:
        assert clock.read_state(-1, 0) == "cannot tell"
        assert clock.judge(NOW, "cannot tell").level == "ok"

    def test_a_clock_that_nothing_sets_is_a_warning(self) -> None:
        assert clock.judge(NOW, "no").level == "warning"
        assert clock.judge(NOW, "yes").level == "ok"


class TestDevices:
    def test_rejected_messages_are_counted_by_device(self, database_url: str) -> None:
        now = datetime.now(UTC)
        with migrated(database_url) as engine:
            with Store(engine).transaction() as transaction:
                transaction.reject(
                    [
                        Rejected("emotions/jetson_1/batch", "a reason", b"{", now),
                        Rejected("emotions/jetson_1/status", "a reason", b"fine", now),
                        Rejected("emotions/no device\x1b[2J/batch", "a reason", b"{", now),
                        Rejected("emotions/jetson_2/batch", "a reason", b"{", now - timedelta(hours=2)),
                    ]
                )
            found = examined(None, database_url)[devices.REJECTED]

        assert found.level == "warning"
        assert found.found.endswith("in the last hour: jetson_1 2, no valid device id 1")

    def test_silent_devices_are_named(self, database_url: str) -> None:
        now = datetime.now(UTC)
        with migrated(database_url) as engine:
            heard(engine, "jetson_1", now)
            heard(engine, "jetson_2", now - timedelta(minutes=5))
            heard(engine, "jetson_3", now - timedelta(days=8))
            with a_daemon_of(database_url):
                found = examined(None, database_url)[devices.SILENT]
                patient = examined(None, database_url, {"EMOTION_SILENT_AFTER_SECONDS": "600"})[devices.SILENT]

        assert found.level == "warning"
        assert found.found == "1 of 3 for more than 30 s: jetson_2; silent for more than 7 days: 1"
        assert patient.level == "ok"

    @pytest.mark.parametrize("metrics", [None, "emotion_broker_connected 0\n"])
    def test_of_devices_that_no_daemon_hears_nobody_says_that_they_are_silent(
        self, metrics: str | None, sqlite_url: str
    ) -> None:
        with migrated(sqlite_url) as engine:
            heard(engine, "jetson_1", datetime.now(UTC) - timedelta(minutes=5))
            if metrics is None:
                found = examined(None, sqlite_url)
            else:
                with a_daemon_of(sqlite_url), answering(503, "lost the broker", metrics) as address:
                    found = examined(None, sqlite_url, {"EMOTION_DAEMON_HTTP_ADDRESS": address})

        assert found.level("daemon") != "ok"
        assert found[devices.SILENT] == ok(devices.SILENT, "not judged: no daemon is subscribed that would hear them")

    def test_the_clock_that_all_devices_contradict_is_the_one_of_the_daemons_machine(self, database_url: str) -> None:
        now = datetime.now(UTC)
        with migrated(database_url) as engine:
            for number, skew in enumerate((-7200.3, -7199.8, -7201.0), 1):
                heard(engine, f"jetson_{number}", now, skew=skew)
            heard(engine, "jetson_9", now - timedelta(minutes=5))  # of another time
            found = examined(None, database_url)[devices.CLOCK]

        assert found.level == "warning"
        assert found.found == (
            "3 of 3 are off: jetson_1 by -7,200 s, jetson_2 by -7,200 s, jetson_3 by -7,201 s. "
            "All differ by the same, so most likely the clock of the daemon's machine is wrong"
        )
        assert "timedatectl" in found.advice

    def test_a_daemon_on_a_machine_whose_clock_is_ahead(self, broker: Broker, sqlite_url: str, tmp_path: Path) -> None:
        faketime = Clock(tmp_path)
        faketime.set(timedelta(hours=2))
        topics = Topics("emotions")
        with Daemon(broker, sqlite_url, tmp_path / "log", **faketime.settings) as daemon:
            daemon.wait_for_log("subscribed to emotions/+/batch")
            with Intruder(broker) as devices_with_right_clocks:
                for device_id in ("jetson_1", "jetson_2"):
                    batch = encode(device_id, datetime.now(UTC), {"1": {"happy": 1}})
                    devices_with_right_clocks.publish(topics.batch(device_id), batch)
                wait_until(lambda: stored(sqlite_url) == 2, what="both are stored")
            found = doctor(environment(broker, sqlite_url) | faketime.settings)[devices.CLOCK]

        assert found["level"] == "warning"
        assert "2 of 2 are off" in found["found"]
        assert "most likely the clock of the daemon's machine is wrong" in found["found"]

    @pytest.mark.parametrize(
        "skews", [{"jetson_1": -8e8, "jetson_2": 4e8}, {"jetson_1": 61.0, "jetson_3": 59.0}, {"jetson_1": -3000.0}]
    )
    def test_devices_whose_clocks_are_off_are_named(self, skews: dict[str, float], sqlite_url: str) -> None:
        now = datetime.now(UTC)
        with migrated(sqlite_url) as engine:
            for device_id, skew in skews.items():
                heard(engine, device_id, now, skew=skew)
            found = examined(None, sqlite_url)[devices.CLOCK]

        assert found.level == "warning"
        assert f"jetson_1 by {skews['jetson_1']:+,.0f} s" in found.found
        assert "jetson_3" not in found.found
        assert "on these devices" in found.advice

    @pytest.mark.parametrize("hours", [-5, 2, 5.5])
    def test_whole_half_hours_are_most_likely_local_time(self, hours: float, sqlite_url: str) -> None:
        with migrated(sqlite_url) as engine:
            heard(engine, "jetson_1", datetime.now(UTC), skew=hours * 3_600 + 0.4)
            found = examined(None, sqlite_url)[devices.CLOCK]

        assert "local time without an offset" in found.found
        assert "UTC with a Z" in found.advice

    def test_a_clock_that_was_set_back_by_an_hour_is_no_local_time(self, sqlite_url: str) -> None:
        with migrated(sqlite_url) as engine:
            heard(engine, "jetson_1", datetime.now(UTC), skew=-3_600, offset=3_600)
            found = examined(None, sqlite_url)[devices.CLOCK]

        assert "local time" not in found.found
        assert found.advice.startswith("Set up NTP")

    def test_a_clock_that_is_off_by_less_is_ok(self, sqlite_url: str) -> None:
        with migrated(sqlite_url) as engine:
            heard(engine, "jetson_1", datetime.now(UTC), skew=60)
            found = examined(None, sqlite_url)[devices.CLOCK]

        assert found == ok(devices.CLOCK, "of 1 heard in the last 4 minutes none is off")

    def test_a_device_that_was_heard_under_a_wrong_clock_is_silent_since_that_is_right(self) -> None:
        silent, *_ = judged({"jetson_1": NOW + timedelta(days=365), "jetson_2": NOW + timedelta(seconds=9)})

        assert silent.level == "warning"
        assert silent.found == "1 of 2 for more than 30 s: jetson_1"

    def test_only_ten_are_named(self) -> None:
        many = {f"jetson_{number:02}": NOW - timedelta(hours=1) for number in range(12)}
        silent, *_ = judged(many)

        assert silent.found.endswith("jetson_08, jetson_09 and 2 more")

    def test_nobody_yet_is_ok(self) -> None:
        assert [found.level for found in judged({})] == ["ok", "ok", "ok"]


def judged(received_at: dict[str, datetime]) -> list[Finding]:
    states = DeviceStates(received_at, {}, {})
    return list(devices.judge(states, now=NOW, silent_after=30, topics=Topics("emotions"), may_be_heard=True))


class TestLogins:
    @pytest.mark.parametrize(
        ("hours", "logins", "level", "said"),
        [
            ({"jetson_1": 1}, "jetson_1", "ok", "devices with a login: 1; all have sent batches"),
            ({"jetson_1": 1, "jetson_2": 1}, "jetson_1", "warning", "but have no login now: jetson_2"),
            ({"jetson_1": 1}, "jetson_1 jetson_3", "warning", "no batch of them has ever arrived: jetson_3"),
            ({"jetson_1": 1, "removed": 8 * 24}, "jetson_1", "ok", "all have sent batches"),
            ({"jetson_1": 1}, "?", "ok", "not compared with the devices: the logins cannot be read"),
            ({}, "", "ok", "devices with a login: 0"),
        ],
    )
    def test_devices_are_compared_with_the_logins(
        self, sqlite_url: str, hours: dict[str, int], logins: str, level: str, said: str
    ) -> None:
        with migrated(sqlite_url) as engine:
            for device_id, ago in hours.items():
                heard(engine, device_id, datetime.now(UTC) - timedelta(hours=ago))
        found = examined(None, sqlite_url, logins=logins)[devices.LOGINS]

        assert found.level == level
        assert said in found.found

    def test_without_the_logins_there_is_no_such_line(self, sqlite_url: str) -> None:
        with migrated(sqlite_url):
            pass

        assert devices.LOGINS not in examined(None, sqlite_url)

    def test_the_logins_are_not_those_of_another_broker(self, sqlite_url: str) -> None:
        with migrated(sqlite_url) as engine:
            heard(engine, "jetson_1", datetime.now(UTC))
        other, service = (
            examined(None, sqlite_url, {"EMOTION_MQTT_HOST": host}, logins="")[devices.LOGINS]
            for host in ("broker.invalid", "mosquitto")
        )

        assert other.level == "ok"
        assert other.found.startswith("not compared with the devices: they log in to broker.invalid,")
        assert service.level == "warning"
