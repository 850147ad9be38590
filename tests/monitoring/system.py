"""Broker, daemon, API and cameras under the eyes of a Prometheus: what an outage is done to."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from time import monotonic

from shared.batch import encode
from tests.background import repeatedly
from tests.brokers import Broker
from tests.clients import Client
from tests.faults.history import TOPICS
from tests.monitoring.prometheus import Prometheus, seconds
from tests.monitoring.promtool import Labels
from tests.processes import Daemon
from tests.waiting import free_port, wait_until
from tests.web import Api

CAMERAS = ("camera_1", "camera_2", "camera_3", "camera_4")

OUTAGE_SECONDS = seconds(5 + 1 + 1)
"""A camera that was blamed for an outage would be by then."""

AFTERWARDS_SECONDS = seconds(1 + 2)
"""So long after an outage an alert would fire that has to do with its end."""

WELL = "min(emotion:receiving) == 1 and min(emotion_api_database_up) == 1 and min(up) == 1 and count(up) == 2"


class Camera:
    """Publishes three times a second from the start of the block to its end, what it is told to."""

    def __init__(self, broker: Broker, device_id: str) -> None:
        self._client = Client(broker, device_id)
        self._device_id = device_id
        self._numbers = count()
        self.silent = False
        self.times = 1
        """Number of batches that it publishes at once."""
        self.rubbish = False
        self.clock_skew = timedelta(0)

    @contextmanager
    def publishing(self) -> Iterator["Camera"]:
        with self._client, repeatedly(self._publish, pause=0.3):
            yield self

    def _publish(self) -> None:
        for _ in range(0 if self.silent else self.times):
            stamp = datetime.now(UTC) + self.clock_skew
            number = next(self._numbers)
            people = {f"{number}-{each}": {"happy": 0.3} for each in range(20)}  # new ones: the database grows
            batch = b"rubbish" if self.rubbish else encode(self._device_id, stamp, people)
            self._client.send(TOPICS.batch(self._device_id), batch)


class System:
    """All of it, and well; `database` is where the daemon has its SQLite file."""

    def __init__(self, folder: Path, block: ExitStack, database: Path) -> None:
        self.url = f"sqlite:///{database}/emotion.db"
        self._folder = folder
        self._block = block
        self.daemon_http_address = f"127.0.0.1:{free_port()}"
        self._api_port = free_port()
        targets = {"emotion-daemon": self.daemon_http_address, "emotion-api": f"127.0.0.1:{self._api_port}"}
        # First: it takes 5 seconds to find out which address to ask. The others start meanwhile.
        self.prometheus = block.enter_context(Prometheus(folder / "prometheus", targets))
        (folder / "broker").mkdir()
        self.broker = Broker(folder / "broker", "max_packet_size 327680")
        block.callback(self.broker.kill)
        self.broker.start()
        self.daemon = Daemon(
            self.broker, self.url, folder / "daemon.log", EMOTION_DAEMON_HTTP_ADDRESS=self.daemon_http_address
        )
        block.enter_context(self.daemon)
        self.daemon.wait_for_log("subscribed to")
        self.start_api()
        self.cameras = {name: block.enter_context(Camera(self.broker, name).publishing()) for name in CAMERAS}
        self.wait_until_well()

    def start_api(self) -> None:
        """Start an API at the address of the previous one."""
        self.api = Api(self.url, self._folder / f"api-{time.time()}.log")
        self.api.port = self._api_port
        self._block.enter_context(self.api)

    def wait_until_well(self) -> None:
        wait_until(lambda: self.prometheus.query(WELL), pause=0.2, what="all is well")
        wait_until(lambda: not self.prometheus.firing(), pause=0.2, what="nothing fires")

    def wait_for(self, *alerts: Labels) -> None:
        """Until these fire, and no other."""
        try:
            wait_until(lambda: self.prometheus.firing() == set(alerts), pause=0.2, what=f"{alerts} fire")
        except AssertionError as error:
            error.add_note(f"but there fire {self.prometheus.firing()}")
            raise

    @contextmanager
    def names_alone(self, *alerts: Labels) -> Iterator[None]:
        """Expect these alerts for the fault of the block, and no other until all is well again."""
        began = time.time()
        yield
        self.wait_until_well()
        self.pass_time(AFTERWARDS_SECONDS)
        fired = self.prometheus.fired_since(began)
        assert fired == set(alerts), f"there fired {fired}"

    def last(self, *alerts: Labels, lasting: float = OUTAGE_SECONDS) -> None:
        """Until the outage that just began is named, and `lasting` seconds have passed since its begin."""
        began = monotonic()
        self.wait_for(*alerts)
        self.pass_time(began + lasting - monotonic())

    @staticmethod
    def pass_time(length: float) -> None:
        """The one thing that this waits for is that nothing happens: Prometheus goes on looking meanwhile."""
        end = monotonic() + length
        wait_until(lambda: monotonic() >= end, seconds=length + 60, pause=0.1)


@contextmanager
def watched(folder: Path, *, database: Path | None = None) -> Iterator[System]:
    """A system for the block; `database` is the folder of its SQLite file, if that is to be another one."""
    with ExitStack() as block:
        yield System(folder, block, database or folder)
