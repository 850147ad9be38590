"""From PUBLISH sent to visible in the API, while other devices publish at a given rate."""

import json
import tempfile
import time
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from statistics import median, quantiles

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.backlog import TOPICS
from benchmarks.load import load
from benchmarks.report import Report
from shared.batch import encode
from tests.brokers import Broker
from tests.processes import Daemon
from tests.waiting import wait_until
from tests.web import HOST, SUMMARY, Api

PROBE = "probe"
POLL_SECONDS = 0.002
PAUSE_SECONDS = 0.02  # between one probe that was seen and the next


def run(report: Report, *, rate: int, devices: int, people: int, probes: int, rounds: int) -> None:
    """Milliseconds of `probes` batches of one device under `rate` messages a second of others."""
    values: dict[str, list[float]] = {
        name: [] for name in ("bare subscriber, median", "median", "99th percentile", "longest")
    }
    for number in range(1, rounds + 1):
        report.progress(f"latency at {rate:,} messages/s: round {number}")
        with tempfile.TemporaryDirectory() as name:
            seconds, heard = _round(Path(name), rate=rate, devices=devices, people=people, probes=probes)
        percentiles = quantiles(seconds, n=100)
        measured = median(heard), percentiles[49], percentiles[98], max(seconds)
        for series, value in zip(values.values(), measured, strict=True):
            series.append(value * 1e3)
    report.add("latency", {"messages/s": rate, "devices": devices, "people a batch": people}, "ms", values)


def _round(folder: Path, *, rate: int, devices: int, people: int, probes: int) -> tuple[list[float], list[float]]:
    """Return the measurements of `_probe`. Raises AssertionError if the load did not reach nine tenths of the rate."""
    broker = Broker(folder)
    broker.start()
    url, log = f"sqlite:///{folder}/emotion.db", folder / "log"
    try:
        with Daemon(broker, url, log) as daemon, Api(url, log) as api:
            daemon.wait_for_log(" connected to ")
            with load(broker, rate=rate, devices=devices, people=people) as sent:
                before, began = sent(), time.monotonic()
                measured = _probe(broker, api, people=people, probes=probes)
                achieved = (sent() - before) / (time.monotonic() - began)
            daemon.stop()
    finally:
        broker.kill()
    assert achieved > 0.9 * rate, f"only {achieved:,.0f} messages/s were published"
    return measured


def _probe(broker: Broker, api: Api, *, people: int, probes: int) -> tuple[list[float], list[float]]:
    """Seconds until the API shows a probe; and, the limit, until a subscriber that does nothing has it."""
    arrived: list[float] = []
    publisher = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    publisher.on_connect = lambda client, *_: client.subscribe(TOPICS.batch(PROBE), qos=1)
    publisher.on_message = lambda *_: arrived.append(time.perf_counter())
    publisher.connect(broker.host, broker.port)
    publisher.loop_start()
    wait_until(publisher.is_connected, seconds=10, what="the probe is connected")
    connection = HTTPConnection(HOST, api.port, timeout=10)
    seconds, heard = [], []
    for number in range(1, probes + 1):
        cumulative = {str(person): {"happy": float(number)} for person in range(people)}
        payload = encode(PROBE, datetime.now(UTC), cumulative)
        sent = time.perf_counter()
        publisher.publish(TOPICS.batch(PROBE), payload, qos=1)
        while _seen(connection) < number * people:
            assert time.perf_counter() - sent < 30, "a probe was not seen within 30 s"
            time.sleep(POLL_SECONDS)  # polling without a pause would take the core that the others need
        seconds.append(time.perf_counter() - sent)
        time.sleep(PAUSE_SECONDS)
        heard.append(arrived[number - 1] - sent)
    connection.close()
    publisher.disconnect()
    publisher.loop_stop()
    return seconds, heard


def _seen(connection: HTTPConnection) -> float:
    connection.request("GET", f"{SUMMARY}?device_id={PROBE}")
    happy: float = json.loads(connection.getresponse().read())["emotion_totals"]["happy"]
    return happy
