"""People that are in a table already."""

import sqlite3
from pathlib import Path

OTHERS = "other_"
"""The beginning of their devices' ids."""

_INSERT = """
INSERT INTO person_emotion (device_id, person_id, time_happy, time_sad, time_angry, time_neutral, last_seen)
VALUES (?, ?, ?, ?, ?, 0, ?)
"""


def fill(file: Path, people: int, *, a_device: int = 100, device: str = OTHERS) -> None:
    """Store so many people in a database that has the schema, of as many devices `device`0, `device`1 … as it takes."""
    connection = sqlite3.connect(file)
    with connection:
        connection.executemany(_INSERT, (_row(device, n // a_device, n % a_device) for n in range(people)))
        connection.executemany(
            "INSERT INTO device (device_id, updated_at) VALUES (?, '2025-11-14 12:00:00.000000')",
            ((f"{device}{number}",) for number in range(-(-people // a_device))),
        )
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _row(device: str, number: int, person: int) -> tuple[object, ...]:
    """Every person with seconds and a timestamp of their own."""
    stamp = f"2025-11-14 11:{person // 60 % 60:02}:{person % 60:02}.{person:06}"
    return f"{device}{number}", str(person), person * 1.7, person * 0.3, person / 7, stamp
