"""Answers that were built already, kept for as long as the database would give the same ones."""

import time
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple

from cachetools import LRUCache

from emotion_api.answer import Answer
from emotion_api.watch import DatabaseWatch, Look, Stamp

MAX_KEPT_BYTES = 64 * 2**20
"""How much memory the answers of a process may take; anybody may ask for any device id."""

ENTRY_BYTES = 2_000
"""What an answer takes beside its body."""

TRUSTED_SECONDS = 1.0
"""How long an answer is kept while the daemon commits: what another program has written in between is seen then."""

TRUSTED_TIMES = 20
MOST_TRUSTED_SECONDS = 10.0
"""Or so many times as long as it took to build, but not longer than this: that of very many people takes 0.4 s."""


class Wanted(NamedTuple):
    """What was asked for."""

    device_id: str
    totals_only: bool = False


class Before(NamedTuple):
    """The database as it was before an answer was built; what is committed meanwhile then differs the next time."""

    look: Look
    stamp: Stamp | None
    at: float  # monotonic seconds


class _Kept:
    __slots__ = ("answer", "before", "look", "trusted_until")

    def __init__(self, answer: Answer, before: Before, trusted_until: float) -> None:
        self.answer = answer
        self.before = before
        self.look = before.look  # the last one at which the stamp was the same
        self.trusted_until = trusted_until


class KeptAnswers:
    """The answers of one process, of which the longest unused go first.

    While nothing was committed all are right. What the daemon commits leaves those of other devices right.
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
        self._kept: LRUCache[Wanted, _Kept] = LRUCache(max_bytes, getsizeof=_bytes_of)

    def find(self, wanted: Wanted) -> Answer | None:
        """The answer, if there is one that still is right. Raises what DatabaseWatch.look raises."""
        look = self._watch.look()
        with self._lock:
            kept = self._kept.get(wanted)
        if kept is None or not (kept.before.look is look or self._is_still_right(kept, wanted.device_id, look)):
            return None
        return kept.answer

    def before(self, device_id: str) -> Before:
        """To be called before an answer is built. Raises what DatabaseWatch.look raises."""
        return Before(self._watch.look(), self._watch.stamp(device_id), self._monotonic())

    def keep(self, wanted: Wanted, answer: Answer, before: Before) -> None:
        """Keep what was built since `before`, unless it alone is too long."""
        now = self._monotonic()
        kept = _Kept(answer, before, now + _trusted_seconds(now - before.at))
        if _bytes_of(kept) <= self._max_bytes:
            with self._lock:
                self._kept[wanted] = kept

    def _is_still_right(self, kept: _Kept, device_id: str, look: Look) -> bool:
        if kept.look.epoch != look.epoch or self._monotonic() > kept.trusted_until:
            return False
        if kept.look is not look:
            if kept.before.stamp != self._watch.stamp(device_id):
                return False
            kept.look = look
        return True


def _bytes_of(kept: _Kept) -> int:
    """Twice the body: it may be kept compressed as well, and nobody knows how far that goes."""
    return 2 * kept.answer.length + ENTRY_BYTES


def _trusted_seconds(took: float) -> float:
    """How long to trust an answer that took so many seconds to build."""
    return min(max(TRUSTED_SECONDS, TRUSTED_TIMES * took), MOST_TRUSTED_SECONDS)
