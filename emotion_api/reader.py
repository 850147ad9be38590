"""The answer for a device, as JSON: one that was kept (on SQLite), or built from the database."""

import logging
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Lock

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from emotion_api import queries
from emotion_api.answer import Answer
from emotion_api.kept import Before, KeptAnswers, Wanted
from emotion_api.summary import PEOPLE_A_PIECE, About, encode_summary, encode_totals
from emotion_api.watch import DatabaseWatch

MANY_PEOPLE = 2_000
"""A device with more has an answer that takes longer than others should wait: it is built piece by piece."""

WORK_SECONDS = 0.003
PAUSE_SECONDS = 0.001

_TROUBLE = (DBAPIError, PoolTimeoutError, sqlite3.Error)  # the last from DatabaseWatch, which asks the driver itself

logger = logging.getLogger(__name__)


class DatabaseUnavailable(Exception):
    """Raised when the database cannot be read: not made yet, without its tables, locked or unreachable."""


class SummaryReader:
    """Reads summaries from one engine.

    `device_names` name the devices that the database gives no name; `file` is the database's file, if it is one.
    """

    def __init__(self, engine: Engine, *, device_names: Mapping[str, str], file: Path | None) -> None:
        self._engine = engine
        self._device_names = device_names
        self._kept = None if file is None else KeptAnswers(DatabaseWatch(engine, file))
        self._many_people = Lock()
        self._unavailable_since: float | None = None  # monotonic seconds
        self._available_since = 0.0  # the end of the last outage

    def read(self, wanted: Wanted, *, gzip: bool = False) -> Answer:
        """The summary of a device, as of now; with `gzip` compressed where it is long. Raises DatabaseUnavailable."""
        began = time.monotonic()
        try:
            answer = self._find(wanted) or self._build(wanted)
        except _TROUBLE as error:
            raise self._unavailable(error, began) from error
        self._note_success()
        return answer.compressed(pause=_Pauses()) if gzip else answer

    def check(self) -> None:
        """Read from the table of devices, kept answers or not. Raises DatabaseUnavailable."""
        began = time.monotonic()
        try:
            with self._engine.connect() as connection:
                queries.any_device(connection)
        except _TROUBLE as error:
            raise self._unavailable(error, began) from error
        self._note_success()

    def _find(self, wanted: Wanted) -> Answer | None:
        return None if self._kept is None else self._kept.find(wanted)

    def _build(self, wanted: Wanted) -> Answer:
        device_id = wanted.device_id
        before = self._before(wanted)
        with self._engine.connect() as connection:
            about = self._about(connection, device_id)
            if wanted.totals_only and queries.has_more_people_than(connection, device_id, MANY_PEOPLE):
                totals = queries.totals(connection, device_id)
                return self._keep(wanted, Answer.of([encode_totals(about, totals)]), before)
            # Not asked beforehand how many they are: that would cost everybody what only the rare long list costs now.
            people = next(queries.people(connection, device_id, at_once=MANY_PEOPLE + 1), [])
        if len(people) > MANY_PEOPLE:
            with self._many_people:  # one at a time; who waited may find that it was built meanwhile
                return self._find(wanted) or self._build_in_pieces(wanted)
        pieces = encode_summary(about, [people], totals_only=wanted.totals_only)
        return self._keep(wanted, Answer.of(pieces), before)

    def _build_in_pieces(self, wanted: Wanted) -> Answer:
        before, pause, people = self._before(wanted), _Pauses(), []
        with self._engine.connect() as connection:
            about = self._about(connection, wanted.device_id)
            for rows in queries.people(connection, wanted.device_id, at_once=PEOPLE_A_PIECE):
                people.append(rows)
                pause()
        return self._keep(wanted, Answer.of(encode_summary(about, people), pause=pause), before)

    def _about(self, connection: Connection, device_id: str) -> About:
        name, updated_at = queries.device_row(connection, device_id)
        return About(device_id, self._device_names.get(device_id, device_id) if name is None else name, updated_at)

    def _before(self, wanted: Wanted) -> Before | None:
        return None if self._kept is None else self._kept.before(wanted.device_id)

    def _keep(self, wanted: Wanted, answer: Answer, before: Before | None) -> Answer:
        if self._kept is not None and before is not None:
            self._kept.keep(wanted, answer, before)
        return answer

    def _unavailable(self, error: Exception, began: float) -> DatabaseUnavailable:
        """Note what went wrong with a request that came at `began`, and have it raised as DatabaseUnavailable."""
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        self._note_failure(began, reason)
        self._engine.dispose()  # whoever keeps SQLite's -shm open after its -wal was cut keeps others out as well
        return DatabaseUnavailable(reason)

    def _note_failure(self, began: float, reason: str) -> None:
        # A request that waited since before the end of the last outage says nothing of a new one.
        if self._unavailable_since is None and began >= self._available_since:
            self._unavailable_since = began
            logger.warning("cannot read the database, answering 503 until it can be read: %s", reason)

    def _note_success(self) -> None:
        if self._unavailable_since is not None:
            self._available_since = time.monotonic()
            lasted = self._available_since - self._unavailable_since
            self._unavailable_since = None
            logger.warning("the database can be read again after %.1f s", lasted)


class _Pauses:
    """Now and then a rest in which, under gevent, the worker's other requests go on.

    Not of 0 seconds: gevent would come back before it has looked whether there are any. With four clients that ask for
    100,000 people the others' 99th percentile was 68 ms so, and is 4 ms.
    """

    def __init__(self) -> None:
        self._worked_since = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._worked_since > WORK_SECONDS:
            time.sleep(PAUSE_SECONDS)
            self._worked_since = time.monotonic()
