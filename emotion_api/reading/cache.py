"""The responses that one process has built, for as long as the database would give the same ones."""

import time
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple, Protocol

from cachetools import LRUCache

from emotion_api.reading.change_detector import ChangeDetector, Version
from emotion_api.reading.queries import Revision
from emotion_api.reading.response import CachedResponse

MAX_BYTES = 64 * 2**20
"""How much memory the responses of a process may take. A client may request any device id."""

ENTRY_BYTES = 2_000
"""What an entry takes in addition to the response's body."""

MAX_AGE_SECONDS = 1.0
"""The age at which a response is built again although its device's revision is the same.

Time may have changed it, or a program that raises no revision may have written the database since.
"""


class Request(Protocol):
    """A hashable request. Equal requests have the same response."""

    @property
    def device_id(self) -> str | None:
        """The device that it is about; None for all devices."""

    @property
    def time_dependent(self) -> bool:
        """Whether the response changes with time while the database stays the same."""


class _Entry(NamedTuple):
    response: CachedResponse
    version: Version
    revision: Revision
    built_at: float  # monotonic seconds


class ResponseCache:
    """Responses by request, least recently used first out.

    While nothing was committed all are current, except that a time-dependent one is for MAX_AGE_SECONDS. After a
    commit a response is current until its device's revision differs, but no longer than MAX_AGE_SECONDS after it was
    built. An active device sends a batch a second, so even its list of 100,000 people is built no more often for that.
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
        self._entries: LRUCache[Request, _Entry] = LRUCache(max_bytes, getsizeof=_bytes_of)

    def get(self, request: Request) -> CachedResponse | None:
        """The response to the request if it is current. Raises what the change detector raises."""
        version = self._changes.version()
        with self._lock:
            entry = self._entries.get(request)
        return entry.response if entry is not None and self._is_current(entry, request, version) else None

    def put(self, request: Request, response: CachedResponse, version: Version, revision: Revision) -> None:
        """Add a response, unless it alone is too long.

        `version` was read before the transaction that the response was built from, and `revision` in it. Therefore a
        commit during the build makes the entry outdated; it never makes an outdated entry current.
        """
        entry = _Entry(response, version, revision, self._monotonic())
        if _bytes_of(entry) <= self._max_bytes:
            with self._lock:
                self._entries[request] = entry

    def _is_current(self, entry: _Entry, request: Request, version: Version) -> bool:
        if entry.version == version and not request.time_dependent:
            return True
        if entry.version.connection != version.connection or self._monotonic() > entry.built_at + MAX_AGE_SECONDS:
            return False
        return entry.version == version or entry.revision == self._changes.revision(request.device_id)


def _bytes_of(entry: _Entry) -> int:
    """Twice the body, because the entry may hold it compressed, too, and compression may save nothing."""
    return 2 * entry.response.length + ENTRY_BYTES
