"""The responses that one process has built, for as long as the database would give the same ones."""

import time
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple, Protocol

from cachetools import LRUCache

from emotion_api.reading.change_detector import ChangeDetector, Now, Version
from emotion_api.reading.queries import Revision
from emotion_api.reading.response import CachedResponse

MAX_BYTES = 64 * 2**20
"""Most bytes that the responses of a process may take. A client may request any device id."""

ENTRY_BYTES = 2_000
"""Bytes of an entry in addition to the response's body."""

MAX_AGE_SECONDS = 1.0
"""The age at which a response is built again although its device's revision is the same.

Time may have changed it, or a program that raises no revision may have written the database since.
"""

EMPTIED_SECONDS = 60.0
"""Seconds after which the cache is emptied. Otherwise an unused response would hold an erased person's data."""


class Request(Protocol):
    """A hashable request. Equal requests have the same response."""

    @property
    def device_id(self) -> str | None:
        """The device that it is about; None for all devices."""

    @property
    def time_dependent(self) -> bool:
        """Return True if the response changes with time while the database stays the same."""


class _Entry(NamedTuple):
    response: CachedResponse
    version: Version
    revision: Revision
    began: float  # monotonic seconds


class ResponseCache:
    """Responses by request, least recently used first out.

    All are dropped every EMPTIED_SECONDS. While nothing was committed all are current, except that a time-dependent one
    is for MAX_AGE_SECONDS. After a commit a response is current until its device's revision differs, but no longer than
    MAX_AGE_SECONDS after its build began. An active device sends a batch a second, so even its list of 100,000 people
    is built no more often for that.
    """

    def __init__(
        self,
        changes: ChangeDetector,
        *,
        max_bytes: int = MAX_BYTES,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._changes = changes
        self._max_bytes = max_bytes
        self._monotonic = monotonic
        self._lock = Lock()
        self.empty()

    def empty(self) -> None:
        """Drop every response."""
        self._entries: LRUCache[Request, _Entry] = LRUCache(self._max_bytes, getsizeof=_bytes_of)
        self._emptied = self._monotonic()

    def empty_if_due(self) -> None:
        """Drop every response if that was not done for EMPTIED_SECONDS. Each request does this first."""
        if self._monotonic() > self._emptied + EMPTIED_SECONDS:
            self.empty()

    def get(self, request: Request) -> CachedResponse | None:
        """The response to the request if it is current. Raises what the change detector raises."""
        self.empty_if_due()
        with self._lock:
            entry = self._entries.get(request)
        if entry is None:
            return None
        return entry.response if self._is_current(entry, request, self._changes.now(request.device_id)) else None

    def put(
        self, request: Request, response: CachedResponse, version: Version, revision: Revision, *, began: float
    ) -> None:
        """Add a response whose build `began` then, in monotonic seconds, unless it alone is too long.

        `version` and `revision` were read before the transaction that the response was built from. Therefore a commit
        during the build makes the entry outdated; it never makes an outdated entry current.
        """
        entry = _Entry(response, version, revision, began)
        if _bytes_of(entry) <= self._max_bytes:
            with self._lock:
                self._entries[request] = entry

    def _is_current(self, entry: _Entry, request: Request, now: Now) -> bool:
        version = now.version
        if entry.version == version and not request.time_dependent:
            return True
        if entry.version.connection != version.connection or self._monotonic() > entry.began + MAX_AGE_SECONDS:
            return False
        return entry.version == version or entry.revision == now.revision()


def _bytes_of(entry: _Entry) -> int:
    """Twice the body, because the entry may hold it compressed, too, and compression may save nothing."""
    return 2 * entry.response.length + ENTRY_BYTES
