"""Several systems side by side: for faults that take more waiting than work."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

HANDS = 5

T = TypeVar("T")


def deal(items: Iterable[T], hands: int = HANDS) -> list[list[T]]:
    """Deal `items` out like cards; fewer hands where there are fewer items."""
    listed = list(items)
    return [listed[first::hands] for first in range(min(hands, len(listed)))]


def together(calls: Iterable[Callable[[], object]]) -> None:
    """Make all calls at once, a thread each, and raise what the first of them raised when all have ended."""
    listed = list(calls)
    with ThreadPoolExecutor(len(listed)) as threads:
        running = [threads.submit(call) for call in listed]
    for call in running:
        call.result()
