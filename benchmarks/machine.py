"""Describe the machine that a figure belongs to."""

import os
import platform
import sqlite3
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

from tests.brokers import find_mosquitto


def describe() -> dict[str, str]:
    """Processor, memory, kernel, how long a small write takes to reach the disk, and the versions that matter."""
    packages = ("paho-mqtt", "sqlalchemy", "msgspec", "flask", "gunicorn", "gevent")
    return {
        "processor": f"{os.cpu_count()} x {_processor()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "fsync of 4 KiB": f"{_fsync_seconds() * 1e3:.2f} ms",
        "Python": f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}, Mosquitto {_mosquitto()}",
        "packages": ", ".join(f"{package} {version(package)}" for package in packages),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _fsync_seconds() -> float:
    seconds = []
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            seconds.append(time.perf_counter() - began)
    return median(seconds)


def _mosquitto() -> str:
    said = subprocess.run([find_mosquitto(), "-h"], capture_output=True, text=True, check=False).stdout
    return said.split("\n", 1)[0].rpartition(" ")[2]
