"""The reply to a batch, and the messages on status and info topics. Pure."""

from datetime import datetime
from typing import Annotated, TypeAlias

import msgspec

STATUSES = ("online", "offline")
"""The retained messages on a status topic; an empty message clears them."""


class ReplyOk(msgspec.Struct, frozen=True, gc=False, tag_field="status", tag="ok"):
    """The batch is committed."""

    updated_count: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            description="number of people that the batch changed: 0 if newer batches reported all of them",
            examples=[2],
        ),
    ]


class ReplyError(msgspec.Struct, frozen=True, gc=False, tag_field="status", tag="error"):
    """The message is invalid and is stored as a dead letter. Do not send it again unchanged."""

    error: Annotated[str, msgspec.Meta(description="the fault of the message, for the device's developer")]


Reply: TypeAlias = ReplyOk | ReplyError
"""A message that the daemon sends to a Response Topic, as JSON."""


class DeviceInfo(msgspec.Struct, frozen=True, gc=False):
    """Statistics of a device's program. All are optional; other fields are ignored."""

    version: Annotated[
        Annotated[str, msgspec.Meta(max_length=64)] | None,
        msgspec.Meta(description="version of the program", examples=["0.1.0"]),
    ] = None
    fps: Annotated[
        Annotated[float, msgspec.Meta(ge=0)] | None, msgspec.Meta(description="frames a second", examples=[24.8])
    ] = None
    queue_age: Annotated[
        Annotated[float, msgspec.Meta(ge=0)] | None,
        msgspec.Meta(description="seconds for which the oldest unsent batch waits", examples=[0.0]),
    ] = None
    last_ack: Annotated[
        Annotated[datetime, msgspec.Meta(tz=True)] | None,
        msgspec.Meta(description="when the broker acknowledged a batch last", examples=["2025-11-14T12:34:56Z"]),
    ] = None
    reconnects: Annotated[
        Annotated[int, msgspec.Meta(ge=0)] | None,
        msgspec.Meta(description="connections after the first since the program's start", examples=[0]),
    ] = None


_info_decoder = msgspec.json.Decoder(DeviceInfo)
_encode = msgspec.json.Encoder().encode


def decode_info(payload: bytes) -> str:
    """Return the statistics in a message of an info topic as JSON, without unknown fields.

    Raises ValueError, or RecursionError for JSON that is nested too deeply.
    """
    payload.decode()  # msgspec does not look at the text that it ignores
    return _encode(_info_decoder.decode(payload)).decode()
