"""Whether a rejected message, or the record of one, mentions a person. Pure.

Such a message could not be read as a batch, so it is searched as text, in whatever way its bytes may be meant. Where
an id is short this finds more than there is: better one diagnosis too many gone than one person too few.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from emotion_daemon.rules.tombstones import Forgotten
from shared.batch import Topics

_ESCAPE = re.compile(r'\\(?:u([0-9A-Fa-f]{4})|(["\\/]))')
_CUT_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{0,3})?$")
_NO_CHARACTER = "\ufffd"
"""What is read in the place of bytes that are none, as of a character that was cut."""

_NESTED = 3
"""How often what is JSON in a string of JSON is undone."""


class Record(NamedTuple):
    """What is kept of a rejected message."""

    topic: str
    reason: str
    payload: bytes


def mentions(record: Record, topics: Topics, *, device_id: str, person_id: str) -> bool:
    """Whether `record` is about this person of this device.

    On a topic of the device itself it has the person's id, elsewhere also the device's. Where the payload ends in the
    middle of the id, cut by us or by the device, the beginning of it counts, from two characters on.
    """
    texts = [record.topic, record.reason, *_readings(record.payload)]
    owner = topics.owner(record.topic)
    if owner != device_id and not _names(texts, device_id, owner):
        return False
    return any(person_id in text for text in texts) or _ends_within(texts[2:], person_id)


def may_mention_forgotten(topic: str, payload: bytes, topics: Topics, forgotten: Forgotten) -> bool:
    """Whether a message may be about somebody who was erased, of whom there is only a digest to compare with.

    So every message on a topic of a device with such people may, and elsewhere every one that mentions such a device,
    or whose topic is no device's.
    """
    owner = topics.owner(topic)
    if owner is None or owner in forgotten:
        return True
    texts = list(_readings(payload))
    return any(_names(texts, device_id, owner) for device_id in forgotten)


def _names(texts: list[str], device_id: str, owner: str | None) -> bool:
    """Whether a device is named, on a topic of another's or of no device: jetson_1 is not where jetson_10 names itself.

    Any other longer name counts: what stands around a name in a payload that could not be read may be anything.
    """
    if owner is not None and device_id in owner:
        texts = [text.replace(owner, "") for text in texts]
    return any(device_id in text for text in texts)


def _ends_within(texts: list[str], name: str) -> bool:
    beginnings = tuple(name[:length] for length in range(2, len(name)))
    return any(_CUT_ESCAPE.sub("", text).rstrip(_NO_CHARACTER).endswith(beginnings) for text in texts)


def _readings(payload: bytes) -> Iterator[str]:
    """The payload as text in every encoding that a device may have meant, as it is and with JSON's escapes undone."""
    encodings = [("utf-8", payload), ("latin-1", payload)]
    if b"\0" in payload:  # as each quotation mark has in another encoding
        encodings += [(f"utf-{bits}-{order}", payload) for bits in (16, 32) for order in ("le", "be")]
        encodings += [("utf-8", payload.replace(b"\0", b""))]  # where a byte too few has come, all others are shifted
    for encoding, data in encodings:
        text = data.decode(encoding, "replace")
        yield text
        for _ in range(_NESTED):
            if "\\" not in text:
                break
            text = _unescaped(text)
            yield text


def _unescaped(text: str) -> str:
    undone = _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[2], text)
    return undone.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # pairs of \u become one character
