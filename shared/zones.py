"""Time zones by their IANA names. The package tzdata has them if the system has no files of its own."""

import difflib
import re
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

_NAME = re.compile(r"[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")  # Debian's right/… has leap seconds, localtime no name


def zone(name: str) -> ZoneInfo:
    """Return the time zone of that name. Raises ValueError, whose text says what a name is like."""
    try:
        if _NAME.fullmatch(name):
            return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, no zone file, a folder
        pass
    raise ValueError(f"is {name!r:.60}, but it is an IANA time zone, like {_similar(name)}")


def _similar(name: str) -> str:
    known = _known()
    close = difflib.get_close_matches(name.lower()[:40], known, n=1, cutoff=0.8)
    return known[close[0]] if close else "Europe/Berlin"


@cache
def _known() -> dict[str, str]:
    """All names, by themselves and by their last part, in lower case. To look for their files takes 70 ms."""
    names = {name.lower(): name for name in sorted(available_timezones()) if _NAME.fullmatch(name)}
    return {name.rpartition("/")[2]: full for name, full in names.items()} | names
