"""The device's side: what a camera's program imports, and devices that are played for want of cameras.

    publish() -> outbox (newest batch) -> background thread -> MQTT broker -> daemon -> Reply -> on_reply

publisher   Publisher, Network, Reply: connection, presence, acknowledgements. The only file here that imports paho
outbox      the messages that are still to be sent, checked and cut to the broker's limit. Pure
errors      InvalidBatch, BatchTooLarge, PublisherClosed, all of them PublisherError
simulator   people who come, change their mood and leave, before devices that do not exist. Pure
simulation  python -m emotion_device simulate
validate    python -m emotion_device validate: check files as the daemon would
__main__    picks the command; command_line has the code that both share
"""

from emotion_device.errors import BatchTooLarge, InvalidBatch, PublisherClosed, PublisherError
from emotion_device.publisher import Network, Publisher, Reply

__all__ = ["BatchTooLarge", "InvalidBatch", "Network", "Publisher", "PublisherClosed", "PublisherError", "Reply"]
