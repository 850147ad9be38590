"""Time zones by their IANA names. The package tzdata has them if the system has no files of its own."""

import difflib
import re
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
    known = {each.lower(): each for each in sorted(available_timezones()) if _NAME.fullmatch(each)}
    cities = {each.rpartition("/")[2]: full for each, full in known.items()}
    close = difflib.get_close_matches(name.lower()[:40], known | cities, n=1, cutoff=0.8)
    return (known | cities)[close[0]] if close else "Europe/Berlin"
