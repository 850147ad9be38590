"""From PUBLISH sent to visible in the API, while other devices publish at a given rate."""

import json
import multiprocessing
import tempfile
import time
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from statistics import median, quantiles

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.backlog import TOPICS
from benchmarks.report import Report
from shared.batch import encode
from tests.brokers import Broker
from tests.processes import Daemon
from tests.waiting import wait_until
from tests.web import HOST, SUMMARY, Api

PROBE = "probe"
POLL_SECONDS = 0.002
PAUSE_SECONDS = 0.02  # between one probe that was seen and the next


def run(report: Report, *, rate: int, devices: int, people: int, probes: int) -> None:
    """Milliseconds of `probes` batches of one device under `rate` messages a second of others."""
    report.progress(f"latency at {rate:,} messages/s")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = Broker(folder)
        broker.start()
        url = f"sqlite:///{folder}/emotion.db"
        log = folder / "log"
        try:
            with Daemon(broker, url, log) as daemon, Api(url, log) as api:
                daemon.wait_for_log(" connected to ")
                sent = multiprocessing.Value("i", 0)
                load = multiprocessing.Process(target=_load, args=(broker.port, rate, devices, people, sent))
                load.start()
                try:
                    wait_until(lambda: sent.value > rate, seconds=60, what="the load runs")
                    before, began = sent.value, time.monotonic()
                    seconds, heard = _probe(broker, api, people=people, probes=probes)
                    achieved = (sent.value - before) / (time.monotonic() - began)
                finally:
                    load.terminate()
                    load.join()
                daemon.stop()
        finally:
            broker.kill()
    percentiles = quantiles(seconds, n=100)
    report.add(
        "latency",
        {
            "messages/s asked for": rate,
            "messages/s sent": round(achieved),
            "devices": devices,
            "people a batch": people,
        },
        "ms",
        {
            "bare subscriber, median": [median(heard) * 1e3],
            "median": [percentiles[49] * 1e3],
            "99th percentile": [percentiles[98] * 1e3],
            "longest": [max(seconds) * 1e3],
        },
    )


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


def _load(
    port: int, rate: int, devices: int, people: int, sent: "multiprocessing.sharedctypes.Synchronized[int]"
) -> None:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.max_inflight_messages_set(1_000)
    client.connect(Broker.host, port)
    client.loop_start()
    began = time.perf_counter()
    while True:
        number = sent.value
        device_id = f"camera_{number % devices}"
        cumulative = {str(person): {"happy": float(number), "sad": 1.0, "angry": 2.0} for person in range(people)}
        client.publish(TOPICS.batch(device_id), encode(device_id, datetime.now(UTC), cumulative), qos=1)
        sent.value = number + 1
        early = began + sent.value / rate - time.perf_counter()
        if early > 0.001:
            time.sleep(early)
