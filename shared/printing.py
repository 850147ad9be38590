"""What commands print on standard output: a reader that leaves and a full disk are no traceback."""

import codecs
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper

_ESCAPE = "emotion.json-escape"


class OutputError(Exception):
    """Raised where standard output cannot be written, as on a full disk. Its text is one sentence."""


@contextmanager
def printing() -> Iterator[None]:
    """For a block that prints, and in which no other OSError can occur; at its end all of it is written.

    A reader that leaves, as `| head` does, is no error: what is printed from then on goes nowhere, as it does where
    standard output is closed. What its encoding has no character for becomes an escape of JSON. Raises OutputError.
    (The default of SIGPIPE would end the whole process, at its sockets too.)
    """
    try:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors=_ESCAPE)
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _print_nowhere()
    except OSError as error:
        _print_nowhere()
        raise OutputError(f"standard output cannot be written: {error.strerror}") from error


def _print_nowhere() -> None:
    """What is still in the buffer is written when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _escape(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error(_ESCAPE, _escape)
