"""Read from Mosquitto's own log the packets between the broker and the daemon."""

from typing import NamedTuple

from emotion_daemon.mqtt.subscriber import GROUP_LIMIT
from tests.brokers import Broker

RECEIVE_MAXIMUM = 2 * GROUP_LIMIT
"""Most batches that the daemon lets the broker send ahead of its PUBACKs."""

_SENT = "Sending PUBLISH to emotion-daemon "
_ACKNOWLEDGED = "Received PUBACK from emotion-daemon "


class Deliveries(NamedTuple):
    """The number of batches that the broker has sent to the daemon, and of PUBACKs for them."""

    sent: int
    acknowledged: int

    @property
    def in_flight(self) -> int:
        return self.sent - self.acknowledged


def deliveries(broker: Broker) -> Deliveries:
    log = broker.log()
    return Deliveries(log.count(_SENT), log.count(_ACKNOWLEDGED))
