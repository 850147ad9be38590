"""How many requests took how long, in memory that the workers share: each adds to a file of its own, and reads all.

A record for each label: the label in 64 bytes, then a number for each bucket, one for what is longer, and the sum of
seconds, as doubles. Where there is no file, it is memory of the process.
"""

import logging
import mmap
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Lock
from typing import TypeAlias

Counts: TypeAlias = list[float]
"""Requests in each bucket, those beyond the last, and the seconds of all: what is counted up, and the sums."""

ROOM = 1 << 17
"""Bytes of a file: some 900 labels, more than 15 views have statuses."""

_LABEL = 64

logger = logging.getLogger(__name__)


class Tally:
    """Counts under labels, of up to 64 bytes. `buckets` are seconds in ascending order, the same for all processes.

    Counts that are in `file` already go on. Where there is no room for it, nobody is told of this process's.
    """

    def __init__(self, buckets: tuple[float, ...], file: Path | None) -> None:
        self._buckets, self._file = buckets, file
        self._numbers = struct.Struct(f"={len(buckets) + 2}d")
        self._record = _LABEL + self._numbers.size
        self._memory: bytearray | mmap.mmap = bytearray(ROOM) if file is None else _shared_or_own(file)
        self._lock = Lock()

    def counts(self, label: str) -> "memoryview[float]":
        """The numbers of this process under `label`, to be counted up in place."""
        wanted = label.encode()
        with self._lock:
            begin = self._place(wanted)
            if not self._memory[begin]:
                self._memory[begin + 1 : begin + len(wanted)] = wanted[1:]
                self._memory[begin] = wanted[0]  # last: to the others there is no record before
        return memoryview(self._memory)[begin + _LABEL : begin + self._record].cast("d")

    def all(self) -> dict[str, Counts]:
        """The counts of all processes, those that have ended too."""
        sums: dict[str, Counts] = {}
        for memory in self._memories():
            for label, counts in self._records(memory):
                before = sums.get(label)
                sums[label] = counts if before is None else [a + b for a, b in zip(before, counts, strict=True)]
        return sums

    def _place(self, label: bytes) -> int:
        """Where the label's record begins, or the first that is free."""
        wanted = label.ljust(_LABEL, b"\0")
        return next(
            begin
            for begin in range(0, ROOM - self._record, self._record)
            if self._memory[begin : begin + _LABEL] in (wanted, bytes(_LABEL))
        )

    def _memories(self) -> Iterable[bytes | bytearray]:
        if self._file is None:
            return (bytearray(self._memory),)
        return (file.read_bytes() for file in sorted(self._file.parent.glob(f"*{self._file.suffix}")))

    def _records(self, memory: bytes | bytearray) -> Iterator[tuple[str, Counts]]:
        for begin in range(0, ROOM - self._record, self._record):
            label = bytes(memory[begin : begin + _LABEL]).rstrip(b"\0")
            if not label:
                return
            yield label.decode(), list(self._numbers.unpack_from(memory, begin + _LABEL))


def _shared_or_own(file: Path) -> mmap.mmap | bytearray:
    try:
        return _shared(file)
    except OSError as error:
        logger.error(
            "/metrics lacks the requests of this worker until it is restarted: cannot write %s: %s", file, error
        )
        return bytearray(ROOM)


def _shared(file: Path) -> mmap.mmap:
    """The file's bytes. All of its room is taken now: later, a full disk would end the process that writes (SIGBUS)."""
    if not file.exists():
        new = file.with_suffix(".new")
        with new.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, ROOM)
        new.rename(file)  # to the others it is not there before it is whole
    with file.open("r+b") as stream:
        return mmap.mmap(stream.fileno(), ROOM)
