"""Whether the daemon does its work: `python -m emotion_daemon.health [FILE]`, for Docker's health check and the like.

It reads the file that emotion_daemon/heartbeat.py writes. It runs every few seconds, so it imports next to nothing.
"""

import os
import sys
import time

OK = "ok"
"""What the file says while the daemon is subscribed and its last commit succeeded."""

STALE_SECONDS = 15.0
"""A daemon that has not written the file for so long hangs or is gone."""


def main(arguments: list[str]) -> int:
    """Print what the daemon says of itself, or what is wrong with that; 0 if it is OK, else 1."""
    paths = arguments or [os.environ.get("EMOTION_HEALTH_FILE", "").strip()]
    if len(paths) != 1 or not paths[0] or paths[0].startswith("-"):
        sys.stderr.write("usage: python -m emotion_daemon.health FILE, or without it EMOTION_HEALTH_FILE is read\n")
        return 2
    line = check(paths[0], now=time.time())
    sys.stdout.write(f"{line}\n")
    return 0 if line == OK else 1


def check(path: str | os.PathLike[str], *, now: float) -> str:
    """The daemon's line if it is fresh, else a sentence; `now` is seconds since 1970."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            age = now - os.fstat(file.fileno()).st_mtime
            line = file.read().strip()
    except FileNotFoundError:
        return f"there is no {path}: the daemon is not running, or its EMOTION_HEALTH_FILE is another"
    except OSError as error:
        return f"cannot read {path}: {error.strerror}"
    if abs(age) < STALE_SECONDS:
        return line
    since = f"for {age:.0f} s" if age > 0 else "since the clock was set back"
    return f"the daemon has not written {path} {since}: it hangs or is not running"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
