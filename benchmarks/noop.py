"""The baseline: a paho subscriber over MQTT 5 that acknowledges by hand and does nothing else.

`python -m benchmarks.noop HOST PORT CLIENT_ID MESSAGES` prints the seconds from the first message to the last ack.
"""

import sys
import time
from typing import Any

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.backlog import connect_properties


def main() -> None:
    host, port, client_id, expected = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    began = ended = 0.0
    received = 0

    def on_message(client: mqtt.Client, userdata: Any, message: mqtt.MQTTMessage) -> None:
        nonlocal began, ended, received
        if received == 0:
            began = time.perf_counter()
        received += 1
        client.ack(message.mid, message.qos)
        if received == expected:
            ended = time.perf_counter()

    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5, manual_ack=True)
    client.on_message = on_message
    client.connect(host, port, clean_start=False, properties=connect_properties(1_000))
    while not ended:
        client.loop(timeout=1)
    print(ended - began)
    client.disconnect()


main()
