"""The device's side: what a camera's program imports, and devices that are played for want of cameras.

    publish() -> outbox (newest batch) -> background thread -> MQTT broker -> daemon -> Reply -> on_reply

publisher   Publisher, Network, Reply: connection, presence, acknowledgements. The only file here that imports paho
outbox      what is still to be sent, checked and cut to what the broker takes. Pure
errors      InvalidBatch, BatchTooLarge, PublisherClosed, all of them PublisherError
simulator   people who come, change their mood and leave, before devices that do not exist. Pure
simulation  python -m emotion_device simulate
validate    python -m emotion_device validate: what the daemon would say to a file
__main__    picks the command; command_line has what both share
"""

from emotion_device.errors import BatchTooLarge, InvalidBatch, PublisherClosed, PublisherError
from emotion_device.publisher import Network, Publisher, Reply

__all__ = ["BatchTooLarge", "InvalidBatch", "Network", "Publisher", "PublisherClosed", "PublisherError", "Reply"]
