"""A process whose clock is wrong, and may jump while it runs."""

import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

RIGHT = timedelta(0)


class Clock:
    """The wall clock of the processes that get `settings` in their environment; monotonic time goes on as it is.

    It is off from the clock of the tests, which may be off itself: see scripts/test.

    Mind that time.sleep() fails under it (EINVAL: libfaketime 0.9.10 and a clock_nanosleep on monotonic time), which
    the daemon calls only while its broker or its database is away at the start.
    """

    def __init__(self, folder: Path) -> None:
        program = shutil.which("faketime")
        assert program, "the tests need faketime: apt-get install faketime"
        library = subprocess.run(
            [program, "-f", "+0", "printenv", "LD_PRELOAD"], check=True, capture_output=True, text=True, timeout=30
        )
        self._file = folder / "clock"
        self.settings = {
            "LD_PRELOAD": library.stdout.strip(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",  # the same, before 0.9.10
        }
        self.set(RIGHT)

    def set(self, off: timedelta) -> None:
        """The clock is so much ahead from now on, or behind if that is negative."""
        self.off = off
        new = self._file.with_suffix(".new")
        new.write_text(f"{off.total_seconds() + _own_seconds():+.0f}\n")
        os.replace(new, self._file)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.off


def _own_seconds() -> float:
    """Return by how much the clock of this process is ahead of the machine's."""
    file = os.environ.get("FAKETIME_TIMESTAMP_FILE")
    return float(Path(file).read_text()) if file else 0.0
