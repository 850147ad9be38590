"""Whether this machine's clock is right: the daemon compares every timestamp with it."""

import ctypes
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal

from emotion_admin.doctor.finding import Finding, ok, problem, warning

SUBJECT = "clock"
EARLIEST = datetime(2025, 1, 1, tzinfo=UTC)
FUTURE = timedelta(minutes=1)
LARGEST_DIFFERENCE_SECONDS = 5.0

_TIME_ERROR = 5
_STA_UNSYNC = 0x0040

Synchronised = Literal["yes", "no", "cannot tell"]


class _Timex(ctypes.Structure):
    """The beginning of struct timex, adjtimex(2); `rest` is longer than its remainder."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 512),
    )


def synchronised() -> Synchronised:
    """Ask the kernel whether something like NTP sets the clock."""
    timex = _Timex()  # modes 0: only read
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return "cannot tell"
    return read_state(state, timex.status)


def read_state(state: int, status: int) -> Synchronised:
    """Interpret the result of adjtimex(2), which is -1 if a container may not call it."""
    if state < 0:
        return "cannot tell"
    return "no" if state == _TIME_ERROR or status & _STA_UNSYNC else "yes"


def judge(now: datetime, is_synchronised: Synchronised) -> Finding:
    """Judge the clock by itself."""
    shown = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    if now < EARLIEST:
        return problem(
            SUBJECT,
            f"the system clock is in the past ({shown}): device timestamps look like future ones",
            "Set the clock, and turn on NTP: timedatectl set-ntp true.",
        )
    if is_synchronised == "no":
        return warning(
            SUBJECT,
            f"it says {shown}, and nothing like NTP sets it",
            "Install systemd-timesyncd or chrony, and turn on NTP: timedatectl set-ntp true.",
        )
    by = {"yes": "synchronised", "cannot tell": "cannot tell whether it is synchronised"}[is_synchronised]
    return ok(SUBJECT, f"it says {shown}; {by}")


def judge_against_the_database(
    now: datetime, *, newest_batch: datetime | None, database_ahead: float | None
) -> Iterator[Finding]:
    """Judge the clock by stored times, and by the database server's clock, which is `database_ahead` seconds ahead."""
    if newest_batch is not None and newest_batch - now > FUTURE:
        yield warning(
            "clock, stored times",
            f"the newest batch was received at {newest_batch:%Y-%m-%dT%H:%M:%SZ}, in the future: "
            "the clock was set back, or was wrong then",
            "If the clock is right now, do nothing: the daemon ignores stored times that lie in the future.",
        )
    elif newest_batch is not None:
        yield ok("clock, stored times", "none lies in the future")
    if database_ahead is None:
        return
    if abs(database_ahead) > LARGEST_DIFFERENCE_SECONDS:
        yield warning(
            "clock, database",
            f"the database server's clock differs from ours by {database_ahead:+.0f} s",
            "Turn on NTP on both machines.",
        )
    else:
        yield ok("clock, database", f"within {LARGEST_DIFFERENCE_SECONDS:.0f} s of ours")
