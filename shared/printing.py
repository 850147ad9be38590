"""Print on standard output: a reader that leaves, as `| head` does, and a full disk cause no traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper


class OutputError(Exception):
    """Raised when standard output cannot be written, as on a full disk. Its text is one sentence."""


def echo(line: str) -> None:
    """Print a line in UTF-8. If the reader has left, this line and all later ones are discarded. Raises OutputError."""
    with _guarded():
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
        print(line, flush=True)


def echo_bytes(content: bytes) -> None:
    """Print bytes as they are, without a line break. Otherwise as `echo`."""
    with _guarded():
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


@contextmanager
def _guarded() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes its buffer again at the exit
        if not isinstance(error, BrokenPipeError):
            raise OutputError(f"standard output cannot be written: {error.strerror}") from error
