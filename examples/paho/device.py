"""Publish a camera's batches with paho-mqtt alone: Python 3.8 or newer, pip install 'paho-mqtt>=2'.

The broker may be down when this program starts, and later. paho reconnects, and then sends the queued batches.
"""

import json
import logging
import signal
import threading
import time
from datetime import datetime, timezone

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

# For a server, `scripts/device add` prints these five lines.
DEVICE_ID = "jetson_1"
HOST = "localhost"
PORT = 1883
PASSWORD = None
TLS_CA = None

BATCH_TOPIC = f"emotions/{DEVICE_ID}/batch"
STATUS_TOPIC = f"emotions/{DEVICE_ID}/status"
MOST_WAITING = 600  # ten minutes at one batch a second

log = logging.getLogger(DEVICE_ID)
if not hasattr(mqtt, "CallbackAPIVersion"):  # apt's python3-paho-mqtt is often version 1
    raise SystemExit("this program needs paho-mqtt 2: run  pip install 'paho-mqtt>=2'  in a virtual environment")


def people_in_view():
    """Put your detector here. Returns each person's cumulative seconds of each emotion."""
    return {"1": {"happy": 123.5, "sad": 20.0, "angry": 10.0}}


class Device:
    """The connection of one device. paho's thread calls the methods that begin with `on_`."""

    def __init__(self):
        self.lock = threading.Lock()
        self.unacknowledged = 0
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=DEVICE_ID, protocol=mqtt.MQTTv5)
        self.client.on_connect = self.on_connect
        self.client.on_connect_fail = self.on_connect_fail
        self.client.on_disconnect = self.on_disconnect
        self.client.on_publish = self.on_publish
        self.client.will_set(STATUS_TOPIC, "offline", qos=1, retain=True)
        if PASSWORD is not None:
            self.client.username_pw_set(DEVICE_ID, PASSWORD)
        if TLS_CA is not None:
            self.client.tls_set(TLS_CA)
        self.client.reconnect_delay_set(1, 30)
        self.client.connect_async(HOST, PORT, keepalive=30)  # connect() would raise if the broker is down
        self.client.loop_start()

    def on_connect(self, client, userdata, flags, reason, properties):
        if reason.is_failure:
            log.error("the broker refused the connection: %s", reason)
            return
        log.info("connected to %s:%d", HOST, PORT)
        self.publish(STATUS_TOPIC, "online", retain=True)

    def on_connect_fail(self, client, userdata):
        log.warning("cannot reach the broker at %s:%d; trying again", HOST, PORT)

    def on_disconnect(self, client, userdata, flags, reason, properties):
        log.warning("disconnected: %s", reason)

    def on_publish(self, client, userdata, message_id, reason, properties):
        with self.lock:
            self.unacknowledged -= 1
        if reason.is_failure:
            log.error("the broker refused a message: %s", reason)

    def publish_batch(self, people):
        if self.unacknowledged >= MOST_WAITING:
            return  # values are cumulative: the first batch after the outage has the seconds of everyone in view
        listed = [{"person_id": person_id, "cumulative": seconds} for person_id, seconds in people.items()]
        now = datetime.now(timezone.utc).isoformat()
        self.publish(BATCH_TOPIC, json.dumps({"device_id": DEVICE_ID, "timestamp": now, "people": listed}))

    def publish(self, topic, payload, retain=False):
        with self.lock:
            self.unacknowledged += 1
        self.client.publish(topic, payload, qos=1, retain=retain)  # while disconnected, paho queues it and returns

    def close(self, seconds=5):
        """Wait for the last acknowledgements, and have the broker publish "offline"."""
        deadline = time.monotonic() + seconds
        while self.unacknowledged and self.client.is_connected() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.client.disconnect(ReasonCode(PacketTypes.DISCONNECT, identifier=0x04))  # 0x04: publish the will
        self.client.loop_stop()


def main():
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    device = Device()
    while not stop.wait(1):
        device.publish_batch(people_in_view())
    device.close()


if __name__ == "__main__":
    main()
