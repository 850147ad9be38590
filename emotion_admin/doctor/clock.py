"""Check this machine's clock: the daemon compares every timestamp with it."""

import ctypes
from datetime import UTC, datetime
from typing import Literal

from emotion_admin.doctor.finding import Finding, ok, problem, warning

SUBJECT = "clock"
EARLIEST = datetime(2025, 1, 1, tzinfo=UTC)

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
