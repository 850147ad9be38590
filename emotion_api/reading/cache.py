"""Answers that were built already, kept for as long as the database would give the same ones."""

import time
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple, Protocol

from cachetools import LRUCache

from emotion_api.reading.change_detector import DatabaseWatch, Look, Stamp
from emotion_api.reading.response import CachedResponse

MAX_KEPT_BYTES = 64 * 2**20
"""How much memory the answers of a process may take; anybody may ask for any device id."""

ENTRY_BYTES = 2_000
"""What an answer takes beside its body."""

TRUSTED_SECONDS = 1.0
"""How long an answer is kept while the daemon commits: what another program has written in between is seen then."""

TRUSTED_TIMES = 20
MOST_TRUSTED_SECONDS = 10.0
"""Or so many times as long as it took to build, but not longer than this: that of very many people takes 0.4 s."""


class Request(Protocol):
    """What was asked for; equal where the answer is the same. It can be hashed."""

    @property
    def device_id(self) -> str | None:
        """The device that it is about, None where it is about all of them."""

    @property
    def time_dependent(self) -> bool:
        """Whether the answer changes as time passes, also while the database does not."""


class Before(NamedTuple):
    """The database as it was before an answer was built; what is committed meanwhile then differs the next time."""

    look: Look
    stamp: Stamp | None
    at: float  # monotonic seconds


class _Kept:
    __slots__ = ("answer", "look", "right_at", "stamp", "trusted_until")

    def __init__(self, answer: CachedResponse, before: Before, trusted_until: float, *, time_dependent: bool) -> None:
        self.answer = answer
        self.stamp = before.stamp
        self.right_at = None if time_dependent else before.look  # while this is the look, for however long
        self.look = before.look  # the last one at which the stamp was the same
        self.trusted_until = trusted_until


class ResponseCache:
    """The answers of one process, of which the longest unused go first.

    While nothing was committed all are right but those by the clock, which are for a second. What the daemon commits
    leaves those of other devices right. Those about all devices end with any commit: of two workers one would show a
    camera that the other does not know yet.
    """

    def __init__(
        self,
        watch: DatabaseWatch,
        *,
        max_bytes: int = MAX_KEPT_BYTES,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watch = watch
        self._max_bytes = max_bytes
        self._monotonic = monotonic
        self._lock = Lock()
        self._kept: LRUCache[Request, _Kept] = LRUCache(max_bytes, getsizeof=_bytes_of)

    def find(self, wanted: Request) -> CachedResponse | None:
        """The answer, if there is one that still is right. Raises what DatabaseWatch.look raises."""
        look = self._watch.look()
        with self._lock:
            kept = self._kept.get(wanted)
        if kept is None or not (kept.right_at is look or self._is_still_right(kept, wanted.device_id, look)):
            return None
        return kept.answer

    def before(self, wanted: Request) -> Before:
        """To be called before an answer is built. Raises what DatabaseWatch.look raises."""
        return Before(self._watch.look(), self._stamp(wanted.device_id), self._monotonic())

    def keep(self, wanted: Request, answer: CachedResponse, before: Before) -> None:
        """Keep what was built since `before`, unless it alone is too long."""
        time_dependent, now = wanted.time_dependent, self._monotonic()
        took = now - before.at
        # By the clock it is as old as its beginning; who waited for one that took long shall find it all the same.
        until = before.at + max(TRUSTED_SECONDS, 1.5 * took) if time_dependent else now + _trusted_seconds(took)
        kept = _Kept(answer, before, until, time_dependent=time_dependent)
        if _bytes_of(kept) <= self._max_bytes:
            with self._lock:
                self._kept[wanted] = kept

    def _is_still_right(self, kept: _Kept, device_id: str | None, look: Look) -> bool:
        if kept.look.epoch != look.epoch or self._monotonic() > kept.trusted_until:
            return False
        if kept.look is not look:
            if device_id is None or kept.stamp != self._stamp(device_id):
                return False
            kept.look = look
        return True

    def _stamp(self, device_id: str | None) -> Stamp | None:
        return None if device_id is None else self._watch.stamp(device_id)


def _bytes_of(kept: _Kept) -> int:
    """Twice the body: it may be kept compressed as well, and nobody knows how far that goes."""
    return 2 * kept.answer.length + ENTRY_BYTES


def _trusted_seconds(took: float) -> float:
    """How long to trust an answer that took so many seconds to build."""
    return min(max(TRUSTED_SECONDS, TRUSTED_TIMES * took), MOST_TRUSTED_SECONDS)
