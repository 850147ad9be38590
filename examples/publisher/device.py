"""Count and publish what people show before a camera: Python 3.8 or newer, and the package emotion-device."""

import logging
import os
import signal
import threading
import time

from emotion_device import EmotionCounters, Publisher, Reply, Watchdog, log_to_stderr

# For a server, replace these five lines by those that `scripts/device add` prints. As a service of systemd, the program
# takes the values from /etc/emotion-device/settings.
DEVICE_ID = os.environ.get("EMOTION_DEVICE_ID", "jetson_1")
HOST = os.environ.get("EMOTION_MQTT_HOST", "localhost")
PORT = int(os.environ.get("EMOTION_MQTT_PORT", "1883"))
PASSWORD = os.environ.get("EMOTION_MQTT_PASSWORD") or None
TLS_CA = os.environ.get("EMOTION_MQTT_TLS_CA") or None

log = logging.getLogger(DEVICE_ID)


def people_in_frame():
    """Put your camera, detector and tracker here. Returns the id and the label of each person in the next frame."""
    time.sleep(0.1)
    return [("1", "happy"), ("2", "neutral")]


def on_reply(reply: Reply) -> None:
    if reply.status == "error":
        log.error("a batch was rejected: %s", reply.error)


log_to_stderr()
stop = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stop.set())

counters = EmotionCounters(state_file="counters.json")
publisher = Publisher(DEVICE_ID, host=HOST, port=PORT, password=PASSWORD, tls_ca=TLS_CA, on_reply=on_reply)
watchdog = Watchdog()
with counters, publisher:
    published_at = time.monotonic()
    watchdog.ready()
    while not stop.is_set():
        for person_id, label in people_in_frame():
            counters.observe(person_id, label)
        if time.monotonic() - published_at >= 1:
            published_at = time.monotonic()
            publisher.publish(counters.people())
        watchdog.beat()
    publisher.publish(counters.people())
