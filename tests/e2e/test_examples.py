"""The device programs in examples/, run as they are; only the five lines for the connection are those of the test."""

import ast
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import pytest

from emotion_admin.snippet import Address, connection_lines
from tests.brokers import Broker
from tests.certificates import make_certificate
from tests.clients import Client
from tests.processes import ROOT
from tests.waiting import DEADLINE_SECONDS, free_port, wait_until

PAHO = ROOT / "examples" / "paho" / "device.py"
PUBLISHER = ROOT / "examples" / "publisher" / "device.py"
BATCH_TOPIC, STATUS_TOPIC = "emotions/jetson_1/batch", "emotions/jetson_1/status"
FIVE_LINES = re.compile(r"^DEVICE_ID = .*\nHOST = .*\nPORT = .*\nPASSWORD = .*\nTLS_CA = .*\n", re.MULTILINE)

pytestmark = pytest.mark.program


class Example:
    """A device program from the start of the block to its end."""

    def __init__(
        self,
        source: Path,
        folder: Path,
        address: Address,
        edits: dict[str, str] | None = None,
        *,
        python: str = sys.executable,
    ) -> None:
        lines = "\n".join(connection_lines("jetson_1", "password", address)) + "\n"
        code, count = FIVE_LINES.subn(lines, source.read_text(encoding="utf-8"))
        assert count == 1
        for old, new in (edits or {}).items():
            assert old in code
            code = code.replace(old, new)
        self._file = folder / "device.py"
        self._file.write_text(code, encoding="utf-8")
        self._log = folder / "device.log"
        self._python = python

    def __enter__(self) -> "Example":
        with self._log.open("wb") as log:
            command = [self._python, "-W", "error", self._file.name]
            self._process = subprocess.Popen(command, cwd=self._file.parent, stdout=log, stderr=log)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """Stop it as systemd does, and return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=DEADLINE_SECONDS)

    def wait_for_log(self, text: str, times: int = 1) -> None:
        wait_until(lambda: self._log.read_text().count(text) >= times, what=f"the program logs {text!r}")


@pytest.fixture(params=[PAHO, PUBLISHER], ids=["paho", "publisher"])
def source(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def later_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that the test starts."""
    broker = Broker(tmp_path_factory.mktemp("later_broker"))
    yield broker
    broker.kill()


def address_of(broker: Broker) -> Address:
    return Address(broker.host, broker.port, tls=False)


def batches(client: Client) -> int:
    return sum(seen.topic == BATCH_TOPIC for seen in client.seen)


def last_status(broker: Broker) -> bytes | None:
    """The retained presence of the device."""
    with Client(broker) as client:
        client.listen(STATUS_TOPIC)
        client.listen("emotions/nothing")  # the broker has sent the retained message before it answers this
        return client.seen[-1].payload if client.seen else None


def test_a_device_that_starts_before_the_broker_publishes_once_the_broker_runs(
    source: Path, later_broker: Broker, tmp_path: Path
) -> None:
    with Example(source, tmp_path, address_of(later_broker)) as device:
        device.wait_for_log("cannot reach the broker")
        later_broker.start()

        with Client(later_broker) as client:
            client.listen("emotions/#")
            wait_until(lambda: batches(client) >= 2, what="batches arrive")
            assert b"online" in {seen.payload for seen in client.seen if seen.topic == STATUS_TOPIC}


def test_a_device_survives_a_broker_that_stops_and_returns(source: Path, broker: Broker, tmp_path: Path) -> None:
    with Example(source, tmp_path, address_of(broker)) as device:
        device.wait_for_log("connected to")
        broker.stop()
        device.wait_for_log("cannot reach the broker")
        broker.start()

        with Client(broker) as client:
            client.listen("emotions/#")
            wait_until(lambda: batches(client) >= 2, what="batches arrive again")
        assert last_status(broker) == b"online"
        assert device.stop() == 0


def test_a_stopped_device_ends_cleanly_and_its_status_is_offline(source: Path, broker: Broker, tmp_path: Path) -> None:
    with Example(source, tmp_path, address_of(broker)) as device, Client(broker) as client:
        client.listen("emotions/#")
        wait_until(lambda: batches(client) >= 1, what="a batch arrives")
        assert last_status(broker) == b"online"

        assert device.stop() == 0

        assert last_status(broker) == b"offline"


def test_a_device_also_ends_cleanly_while_the_broker_is_down(
    source: Path, later_broker: Broker, tmp_path: Path
) -> None:
    with Example(source, tmp_path, address_of(later_broker)) as device:
        device.wait_for_log("cannot reach the broker")

        assert device.stop() == 0


def test_a_device_reports_that_the_broker_refuses_its_batches(
    source: Path, start_broker: Callable[[str], Broker], tmp_path: Path
) -> None:
    (tmp_path / "acl").write_text("topic write emotions/jetson_1/status\n")
    broker = start_broker(f"acl_file {tmp_path}/acl")

    with Example(source, tmp_path, address_of(broker)) as device:
        device.wait_for_log("the broker refused a")
        device.wait_for_log("Not authorized")


def test_a_device_connects_with_tls_as_device_add_says(
    source: Path, start_broker: Callable[[str], Broker], tmp_path: Path
) -> None:
    made = make_certificate(tmp_path)  # ca.crt lies next to the program, as the printed line expects
    port = free_port()
    broker = start_broker(f"listener {port} 127.0.0.1\ncertfile {made.certificate}\nkeyfile {made.key}\n")

    with Example(source, tmp_path, Address("localhost", port, tls=True)), Client(broker) as client:
        client.listen("emotions/#")
        wait_until(lambda: batches(client) >= 1, what="a batch arrives")


def test_with_paho_alone_an_outage_queues_a_bounded_number_of_batches(broker: Broker, tmp_path: Path) -> None:
    subscribe = ["-V", "5", "-h", broker.host, "-p", str(broker.port), "-c", "-i", "onlooker", "-x", "3600", "-q", "1"]
    subscribe += ["-t", BATCH_TOPIC]
    subprocess.run(["mosquitto_sub", *subscribe, "-E"], check=True, timeout=DEADLINE_SECONDS)
    broker.stop()
    edits = {"MOST_WAITING = 600": "MOST_WAITING = 5", "stop.wait(1)": "stop.wait(0.01)"}

    with Example(PAHO, tmp_path, address_of(broker), edits) as device:
        device.wait_for_log("cannot reach the broker", times=2)  # a second apart: time for a hundred batches
        returned = datetime.now(UTC)
        broker.start()
        device.wait_for_log("connected to")
        assert device.stop() == 0

    read = subprocess.run(
        ["mosquitto_sub", *subscribe, "-W", "2"], capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
    )
    stamps = [datetime.fromisoformat(stamp) for stamp in re.findall(r'"timestamp": "(.*?)"', read.stdout)]
    assert sum(stamp < returned for stamp in stamps) == 5


def test_the_paho_example_needs_only_paho_and_the_python_of_jetpack_5() -> None:
    tree = ast.parse(PAHO.read_text(encoding="utf-8"), feature_version=(3, 8))

    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported - sys.stdlib_module_names == {"paho"}
