"""The reply to a batch, and the messages on a status topic. Pure."""

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
