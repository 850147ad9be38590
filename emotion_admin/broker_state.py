"""Set a damaged mosquitto.db aside, so that the broker starts: `python emotion_admin/broker_state.py FILE`.

Mosquitto writes and reads the file. After a power cut it may be cut off or contain zeros, and Mosquitto then ends at
each start. The systemd unit and scripts/run run this module before Mosquitto. It imports the standard library only.
"""

import mmap
import os
import stat
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from struct import Struct

_MAGIC = b"\x00\xb5\x00mosquitto db"
_HEADER_BYTES = len(_MAGIC) + 8
"""The magic bytes, a checksum that is always 0, and the version of the format."""

_VERSION = 6
"""The format of Mosquitto 2.0. This module does not judge others, except that a version 0 does not exist."""

_CHUNK = Struct(">II")
"""Kind and length of a chunk."""

_BODIES = {
    1: (Struct(">16x"), ()),  # the broker
    2: (Struct(">16xI2xHHH4x"), (3,)),  # a message: payload, client id, username, topic
    3: (Struct(">10xH4x"), (0,)),  # a queued message: client id
    4: (Struct(">8x"), ()),  # a retained message
    5: (Struct(">4xHH4x"), (0, 1)),  # a subscription: client id, topic
    6: (Struct(">14xH2xH4x"), (0,)),  # a session: client id, username
}
"""The fixed part of each kind of chunk, with the lengths of the texts that follow it, and which of them are never 0."""


def is_damaged(data: bytes | mmap.mmap) -> bool:
    """Return True if Mosquitto 2.0 would fail to load `data`. It skips unknown chunks and a last header that is cut."""
    if data[: len(_MAGIC)] != _MAGIC:
        return True
    version = int.from_bytes(data[_HEADER_BYTES - 4 : _HEADER_BYTES])
    if version != _VERSION:
        return version == 0
    position, end = _HEADER_BYTES, len(data)
    while position + _CHUNK.size <= end:
        kind, length = _CHUNK.unpack_from(data, position)
        position += _CHUNK.size
        if kind in _BODIES:
            body, required = _BODIES[kind]
            if length < body.size or position + length > end:
                return True
            lengths = body.unpack_from(data, position)
            if body.size + sum(lengths) > length or not all(lengths[index] for index in required):
                return True
        position += length
    return False


def set_aside(path: Path, now: datetime) -> Path | None:
    """Rename the file at `path` if it is damaged, and return its new path. Return None if all is well, or no file."""
    try:
        # The folder belongs to the broker's user: neither a link nor a pipe of its own may lead root elsewhere.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size == 0:  # Mosquitto starts with an empty file
            return None
        with closing(mmap.mmap(file, 0, access=mmap.ACCESS_READ)) as data:
            if not is_damaged(data):
                return None
    finally:
        os.close(file)
    aside = path.with_name(f"{path.name}.damaged-{now:%Y-%m-%dT%H-%M-%SZ}")
    path.rename(aside)
    return aside


def main(arguments: list[str]) -> int:
    """Set the file aside if it is damaged, and say so in one sentence."""
    if len(arguments) != 1:
        print("usage: python emotion_admin/broker_state.py FILE", file=sys.stderr)
        return 2
    try:
        aside = set_aside(Path(arguments[0]), datetime.now(UTC))
    except OSError as error:
        print(f"cannot check the broker's stored state: {error}", file=sys.stderr)
        return 1
    if aside is not None:
        print(
            "the broker's stored state was damaged: sessions and queued messages are lost, "
            f"and the file is now {aside}. See docs/troubleshooting.md",
            file=sys.stderr,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
