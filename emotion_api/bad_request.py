"""What a request asks for and cannot have."""


class Refused(ValueError):
    """Raised when a request cannot be answered as it is: its text is one sentence that says what to do instead."""
