"""People and history that are in the tables already."""

import sqlite3
from pathlib import Path

from tests.databases import migrated

OTHERS = "other_"
"""The beginning of their devices' ids."""

_INSERT = """
INSERT INTO person_emotion (device_id, person_id, time_happy, time_sad, time_angry, time_neutral, last_seen)
VALUES (?, ?, ?, ?, ?, 0, ?)
"""

_MINUTES = """
WITH RECURSIVE minute (number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM minute WHERE number < ?)
INSERT INTO emotion_minute
SELECT 'other_' || device.number, datetime('2024-01-01', '+' || minute.number || ' minutes') || '.000000',
       30.5, 20.25, 5, 1, 3, 60
FROM (SELECT number FROM minute LIMIT ?) AS device CROSS JOIN minute
"""

_HOURS = """
INSERT INTO emotion_hour
SELECT device_id, substr(minute, 1, 13) || ':00:00.000000',
       sum(time_happy), sum(time_sad), sum(time_angry), sum(time_neutral), max(most_people), sum(covered)
FROM emotion_minute GROUP BY 1, 2
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


def fill_history(file: Path, *, devices: int, minutes: int) -> None:
    """Store so many minutes from 2024-01-01 on, and their hours, of each of the first devices of OTHERS."""
    connection = sqlite3.connect(file)
    with connection:
        connection.execute(_MINUTES, (minutes - 1, devices))
        connection.execute(_HOURS)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def full_database(file: Path, *, people: int, minutes: int, devices: int) -> Path:
    """Make a database of so many people of OTHERS, and of so many minutes of all `devices` together."""
    with migrated(f"sqlite:///{file}"):
        pass
    fill(file, people)
    fill_history(file, devices=devices, minutes=minutes // devices)
    return file


def _row(device: str, number: int, person: int) -> tuple[object, ...]:
    """Every person with seconds and a timestamp of their own."""
    stamp = f"2025-11-14 11:{person // 60 % 60:02}:{person % 60:02}.{person:06}"
    return f"{device}{number}", str(person), person * 1.7, person * 0.3, person / 7, stamp
