"""Pauses during long work, for the worker's other requests."""

import time

WORK_SECONDS = 0.003
PAUSE_SECONDS = 0.001


class CooperativeYield:
    """Called during long work, it sleeps now and then. Under gevent the worker's other requests proceed meanwhile.

    A sleep of 0 seconds would return before gevent has checked for other requests. With it, four clients that request
    100,000 people raise the 99th percentile of other requests to 68 ms; with 1 ms it is 4 ms.
    """

    def __init__(self) -> None:
        self._worked_since = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._worked_since > WORK_SECONDS:
            time.sleep(PAUSE_SECONDS)
            self._worked_since = time.monotonic()
