"""The device's side: what a camera's program imports. Python 3.8 or newer, and paho-mqtt.

    observe() -> EmotionCounters -> publish() -> outbox (newest batch) -> background thread -> MQTT broker -> daemon
                                                                                on_reply <- Reply <- thread <-

counters    EmotionCounters: from a label per frame to cumulative seconds
labels      the labels of common emotion models
state_file  the counters on disk, for the next start
publisher   Publisher, Network, Reply: connection, presence, acknowledgements. The only file here that imports paho
outbox      the messages that are still to be sent, cut to the broker's limit. Pure
checks      the check of a batch, and of values of many types. Pure
wire        topics, limits and the payload's form: what shared.batch is for the daemon. Pure
version     of the package and of the server
errors      InvalidBatch, BatchTooLarge, PublisherClosed, all of them PublisherError
posted      the body of a POST to the bridge. Pure
bridge      python -m emotion_device bridge: batches by HTTP POST, as a former backend took them
unattended  the log for systemd's journal, and systemd's watchdog
__main__    python -m emotion_device: picks the command; command_line has the code that all share
workbench/  simulate and validate: not in the device's distribution, because they use the server's packages
"""

from emotion_device.counters import EmotionCounters
from emotion_device.errors import BatchTooLarge, InvalidBatch, PublisherClosed, PublisherError
from emotion_device.labels import LABELS
from emotion_device.publisher import Network, Publisher, Reply
from emotion_device.unattended import Watchdog, log_to_stderr
from emotion_device.version import __version__

__all__ = [
    "LABELS",
    "BatchTooLarge",
    "EmotionCounters",
    "InvalidBatch",
    "Network",
    "Publisher",
    "PublisherClosed",
    "PublisherError",
    "Reply",
    "Watchdog",
    "__version__",
    "log_to_stderr",
]
