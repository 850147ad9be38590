"""Write the rows that the daemon would have written of some cameras, for tests of the page alone."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import count, repeat
from types import TracebackType
from typing import Any

from sqlalchemy import func, select

from emotion_daemon.storage.statements import raise_revision
from emotion_daemon.storage.totals_migration import leave_only_totals
from shared.batch import Topics
from shared.database import writer_engine
from shared.schema import device, device_state, metadata, person_emotion, rejected_message
from tests.databases import add_minutes

Seconds = tuple[float, float, float, float]
"""Of happy, sad, angry and neutral."""

SMILING: Mapping[str, Seconds] = {"1": (12.5, 3.0, 0.5, 0.0), "2": (1.0, 42.0, 0.0, 2.0)}


class Cameras:
    """Writes rows until the end of the block."""

    def __init__(self, url: str) -> None:
        self._engine = writer_engine(url)
        self._revisions = map(pow, count(2), repeat(3))  # no two sums of a few are equal
        metadata.create_all(self._engine)

    def __enter__(self) -> "Cameras":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._engine.dispose()

    def forget(self) -> None:
        """Empty every table."""
        with self._engine.begin() as connection:
            for table in metadata.sorted_tables:
                connection.execute(table.delete())

    def hear(
        self,
        device_id: str = "jetson_1",
        people: Mapping[str, Seconds] = SMILING,
        *,
        ago: float = 0,
        name: str | None = None,
        skew: float = 0,
        now: Seconds = (0.0, 0.0, 0.0, 0.0),
        emotion_now: str | None = None,
    ) -> None:
        """A batch that arrived `ago` seconds ago, from a clock `skew` seconds ahead. The people of before stay.

        `now` are the seconds that all people showed last, `emotion_now` is what each of them did.
        """
        received = datetime.now(UTC) - timedelta(seconds=ago)
        stamp = received + timedelta(seconds=skew)
        state: dict[str, Any] = {
            "device_id": device_id,
            "received_at": received,
            "people": len(people),
            "clock_skew": skew,
            **dict(zip(_NOW, now, strict=True)),
        }
        state["revision"] = next(self._revisions)
        rows = [
            dict(zip(_PERSON, (device_id, person_id, *seconds, stamp, stamp, emotion_now), strict=True))
            for person_id, seconds in people.items()
        ]
        with self._engine.begin() as connection:
            for table in (device, device_state):
                connection.execute(table.delete().where(table.c.device_id == device_id))
            connection.execute(
                person_emotion.delete().where(
                    person_emotion.c.device_id == device_id, person_emotion.c.person_id.in_(people)
                )
            )
            connection.execute(device.insert().values(device_id=device_id, device_name=name, updated_at=stamp))
            connection.execute(device_state.insert().values(**state))
            if rows:
                connection.execute(person_emotion.insert(), rows)
            sums = (func.sum(person_emotion.c[name]) for name in _TIMES)
            query = select(*sums).where(person_emotion.c.device_id == device_id)
            counted = dict(zip(_TIMES, connection.execute(query).one(), strict=True))
            if counted["time_happy"] is not None:
                connection.execute(device_state.update().where(device_state.c.device_id == device_id).values(counted))

    def hear_many(self, count: int) -> None:
        """A batch without people of each of so many cameras, cam_1 and so on, in one transaction."""
        now = datetime.now(UTC)
        ids = [f"cam_{number}" for number in range(1, count + 1)]
        states = [{"device_id": each, "received_at": now, "people": 0, "clock_skew": 0, "revision": 1} for each in ids]
        with self._engine.begin() as connection:
            connection.execute(device.insert(), [{"device_id": each, "updated_at": now} for each in ids])
            connection.execute(device_state.insert(), states)

    def store_only_totals(self) -> None:
        """Do as a daemon at its start with EMOTION_TOTALS_ONLY."""
        leave_only_totals(self._engine)

    def say(self, device_id: str, status: str, *, ago: float = 0) -> None:
        """Its status topic said `status`, `ago` seconds ago."""
        row: dict[str, Any] = {
            "device_id": device_id,
            "status": status,
            "status_at": datetime.now(UTC) - timedelta(seconds=ago),
        }
        row["revision"] = next(self._revisions)
        with self._engine.begin() as connection:
            changed = connection.execute(device_state.update().where(device_state.c.device_id == device_id).values(row))
            if not changed.rowcount:
                connection.execute(device_state.insert().values(row))

    def reject(self, device_id: str, *, times: int = 1) -> None:
        """So many of its messages were no valid batch."""
        topic = Topics("emotions").batch(device_id)
        row = {
            "topic": topic,
            "reason": "no JSON",
            "payload": b"?",
            "payload_size": 1,
            "received_at": datetime.now(UTC),
        }
        with self._engine.begin() as connection:
            connection.execute(rejected_message.insert(), [row] * times)
            raise_revision(connection, device_id)

    def remember(
        self, device_id: str, seconds: Seconds, *, ago: timedelta, people: int = 1, covered: float | None = None
    ) -> datetime:
        """Store the seconds of a minute `ago`. Return the beginning of that minute."""
        minute = (datetime.now(UTC) - ago).replace(second=0, microsecond=0)
        row = dict(zip(_MINUTE, (device_id, minute, *seconds, people, covered), strict=True))
        with self._engine.begin() as connection:
            add_minutes(connection, [row])
            raise_revision(connection, device_id)
        return minute

    def know_covered(self, device_id: str, *, ago: timedelta) -> None:
        """Since so long ago it is known for how long the device was heard."""
        since = {"covered_since": datetime.now(UTC) - ago, "revision": next(self._revisions)}
        with self._engine.begin() as connection:
            connection.execute(device_state.update().where(device_state.c.device_id == device_id).values(since))


_TIMES = ("time_happy", "time_sad", "time_angry", "time_neutral")
_NOW = ("now_happy", "now_sad", "now_angry", "now_neutral")
_PERSON = ("device_id", "person_id", *_TIMES, "last_seen", "active_at", "emotion_now")
_MINUTE = ("device_id", "minute", *_TIMES, "most_people", "covered")
