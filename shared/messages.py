"""What travels beside the batches: the reply to one, and what a status topic says. No I/O, no clock."""

from typing import Annotated, TypeAlias

import msgspec

STATUSES = ("online", "offline")
"""What a client says on its status topic, retained; an empty message takes it back."""


class ReplyOk(msgspec.Struct, frozen=True, gc=False, tag_field="status", tag="ok"):
    """The batch is committed."""

    updated_count: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            description="how many people the batch changed: 0 if all of them were reported later already",
            examples=[2],
        ),
    ]


class ReplyError(msgspec.Struct, frozen=True, gc=False, tag_field="status", tag="error"):
    """The message is no valid batch, and is kept as rejected. Sent again as it is, it would be rejected again."""

    error: Annotated[str, msgspec.Meta(description="what is wrong with it, in words for whoever writes the device")]


Reply: TypeAlias = ReplyOk | ReplyError
"""What the daemon sends to a Response Topic, as JSON."""
