"""Devices that publish at a given rate, from a process of their own, while something else is measured."""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import c_int
from datetime import UTC, datetime
from multiprocessing.sharedctypes import RawValue

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.backlog import IN_FLIGHT, TOPICS
from shared.batch import encode
from tests.brokers import Broker
from tests.waiting import wait_until


@contextmanager
def load(broker: Broker, *, rate: int, devices: int, people: int) -> Iterator[Callable[[], int]]:
    """`rate` batches a second of `devices` in turn for as long as the block lasts, which begins a second later.

    What it gives says how many were published so far.
    """
    with publishing(_publish, broker.port, rate, devices, people, at_least=rate) as sent:
        yield sent


@contextmanager
def publishing(publish: Callable[..., None], *arguments: object, at_least: int) -> Iterator[Callable[[], int]]:
    """Run `publish(*arguments, sent)` in a process during the block, which begins once it has sent `at_least` messages.

    `sent` is the process's own count of its messages. Yield a function that returns it.
    """
    # Only the other process writes it: a lock would need room in /dev/shm, which a test may have filled.
    sent = RawValue(c_int, 0)
    process = multiprocessing.Process(target=publish, args=(*arguments, sent))
    process.start()
    try:
        wait_until(lambda: sent.value > at_least, seconds=60, what="the load runs")
        yield lambda: sent.value
    finally:
        process.terminate()
        process.join()


def _publish(port: int, rate: int, devices: int, people: int, sent: c_int) -> None:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.max_inflight_messages_set(IN_FLIGHT)
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
