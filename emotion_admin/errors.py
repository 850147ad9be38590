"""What an operator can mend."""


class OperatorError(Exception):
    """Raised where what was asked for cannot be done. Its text is one sentence that says why and what to do."""
