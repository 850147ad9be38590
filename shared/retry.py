"""Repeat what fails while another process holds a lock."""

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def retry(attempt: Callable[[], _T], *, on: Callable[[Exception], bool], seconds: float, pause: float = 0.01) -> _T:
    """Return what `attempt` returns, and repeat it every `pause` seconds while it raises an error that `on` accepts.

    Raises any other error at once, and the last one after `seconds`.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except Exception as error:
            if not on(error) or time.monotonic() > end:
                raise
        time.sleep(pause)
