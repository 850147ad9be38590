"""The limit of the database: the people of a backlog in groups, through SQLite's driver and nothing else.

`python -m benchmarks.bare_driver FILE MESSAGES DEVICES PEOPLE` prints the seconds. The file has the schema already.
"""

import sqlite3
import sys
import time
from collections.abc import Iterator

from benchmarks.backlog import START, seconds
from emotion_daemon.mqtt.subscriber import GROUP_LIMIT

_UPSERT = """
INSERT INTO person_emotion (device_id, person_id, time_happy, time_sad, time_angry, time_neutral, last_seen)
VALUES (?, ?, ?, ?, ?, 0, ?) ON CONFLICT (device_id, person_id) DO UPDATE SET time_happy = excluded.time_happy,
time_sad = excluded.time_sad, time_angry = excluded.time_angry, last_seen = excluded.last_seen
WHERE excluded.last_seen >= last_seen
"""


def main() -> None:
    file, messages, devices, people = sys.argv[1], *map(int, sys.argv[2:])
    groups = list(_groups(messages, devices, people))
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")
    began = time.perf_counter()
    for rows in groups:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(_UPSERT, rows)
        connection.execute("COMMIT")
    print(time.perf_counter() - began)
    connection.close()


def _groups(messages: int, devices: int, people: int) -> Iterator[list[tuple[object, ...]]]:
    """For each group of messages the newest report of each person, in the order of the keys: what the daemon writes."""
    for start in range(0, messages, GROUP_LIMIT):
        newest: dict[tuple[str, str], tuple[object, ...]] = {}
        for number in range(start, min(start + GROUP_LIMIT, messages)):
            turn, device_id = number // devices, f"camera_{number % devices}"
            for person in range(people):
                newest[device_id, str(person)] = (*seconds(turn, person).values(), f"{START:%F %T}.{turn:06}")
        yield [(*key, *report) for key, report in sorted(newest.items())]


main()
