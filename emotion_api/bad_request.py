"""The error for a request that the API cannot answer as it stands."""


class BadRequest(ValueError):
    """Raised when a request is invalid: the text is one sentence that says what to change."""


def unlisted_person(after: str) -> BadRequest:
    """The error for an `after` that names a person who is not in the list."""
    return BadRequest(f"after names a person who is not in the list ({after!r:.60}): begin again without it.")
