"""Publish a camera's batches with Publisher: Python 3.11 or newer, `pip install .` in a checkout of this project."""

import logging
import signal
import threading

from emotion_device import Publisher, Reply

# For a server, `scripts/device add` prints these five lines.
DEVICE_ID = "jetson_1"
HOST = "localhost"
PORT = 1883
PASSWORD = None
TLS_CA = None

log = logging.getLogger(DEVICE_ID)


def people_in_view():
    """Put your detector here. Returns each person's cumulative seconds of each emotion."""
    return {"1": {"happy": 123.5, "sad": 20.0, "angry": 10.0}}


def on_reply(reply: Reply) -> None:
    if reply.status == "error":
        log.error("a batch was rejected: %s", reply.error)


logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
stop = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stop.set())

with Publisher(DEVICE_ID, host=HOST, port=PORT, password=PASSWORD, tls_ca=TLS_CA, on_reply=on_reply) as publisher:
    while not stop.wait(1):
        publisher.publish(people_in_view())
