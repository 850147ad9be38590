"""The error that ends a command."""


class OperatorError(Exception):
    """Raised when a command cannot do what was asked. Its text says why, and what to do."""
