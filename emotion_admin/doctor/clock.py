"""Whether this machine's clock can be right: stamps and arrivals are judged by it."""

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
    """The head of struct timex, adjtimex(2); with room for more than the rest of it."""

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
    """Whether something like NTP sets the clock, as the kernel sees it."""
    timex = _Timex()  # modes 0: it only reads
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return "cannot tell"
    return read_state(state, timex.status)


def read_state(state: int, status: int) -> Synchronised:
    """What adjtimex(2) returned; -1 where a container may not call it."""
    if state < 0:
        return "cannot tell"
    return "no" if state == _TIME_ERROR or status & _STA_UNSYNC else "yes"


def judge(now: datetime, is_synchronised: Synchronised) -> Finding:
    """The clock by itself."""
    shown = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    if now < EARLIEST:
        return problem(
            SUBJECT,
            f"it says {shown}, which is over: every camera's stamps count as from the future",
            "Set it, and have NTP keep it: timedatectl set-ntp true.",
        )
    if is_synchronised == "no":
        return warning(
            SUBJECT,
            f"it says {shown}, and nothing like NTP sets it",
            "Have it set: timedatectl set-ntp true, with systemd-timesyncd or chrony installed.",
        )
    by = {"yes": "synchronised", "cannot tell": "cannot tell from here whether it is synchronised"}[is_synchronised]
    return ok(SUBJECT, f"it says {shown}; {by}")


def judge_against_the_database(
    now: datetime, *, newest_arrival: datetime | None, database_ahead: float | None
) -> Iterator[Finding]:
    """`database_ahead`: seconds that the database server's clock is ahead of ours; None where there is no server."""
    if newest_arrival is not None and newest_arrival - now > FUTURE:
        yield warning(
            "clock, stored times",
            f"the newest batch arrived at {newest_arrival:%Y-%m-%dT%H:%M:%SZ}, which is still to come: "
            "the clock has been set back, or was wrong then",
            "If it is right now, this ends by itself: what is stamped in the future holds up nothing.",
        )
    elif newest_arrival is not None:
        yield ok("clock, stored times", "no batch has arrived in the future")
    if database_ahead is None:
        return
    if abs(database_ahead) > LARGEST_DIFFERENCE_SECONDS:
        yield warning(
            "clock, database",
            f"the database server's clock is off from ours by {database_ahead:+.0f} s",
            "Have NTP set both.",
        )
    else:
        yield ok("clock, database", f"within {LARGEST_DIFFERENCE_SECONDS:.0f} s of ours")
