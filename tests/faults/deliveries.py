"""What passed between the broker and the daemon, as Mosquitto's own log has it."""

from typing import NamedTuple

from tests.brokers import Broker

RECEIVE_MAXIMUM = 1_000
"""How many batches the daemon lets the broker send ahead of its PUBACKs."""

_SENT = "Sending PUBLISH to emotion-daemon "
_ACKNOWLEDGED = "Received PUBACK from emotion-daemon "


class Deliveries(NamedTuple):
    """How many batches the broker has sent to the daemon, and how many PUBACKs it had for them."""

    sent: int
    acknowledged: int

    @property
    def in_flight(self) -> int:
        return self.sent - self.acknowledged


def deliveries(broker: Broker) -> Deliveries:
    log = broker.log()
    return Deliveries(log.count(_SENT), log.count(_ACKNOWLEDGED))
