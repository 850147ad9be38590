"""The counters on disk: written whole or not at all, and ignored if damaged or too old."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

from emotion_device.wire import EARLIEST_TIMESTAMP, EMOTIONS

_VERSION = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PersonState:
    """A person's cumulative seconds, and how many seconds ago the person was seen last."""

    seconds: dict[str, float]
    ago: float


class StateFile:
    """One file of JSON. Its age is measured by the clock of the day, and is 0 if that was not set at the last save."""

    def __init__(self, path: Path, *, max_age: float) -> None:
        self._path = path
        self._max_age = max_age
        self._failed = False

    def load(self) -> dict[str, PersonState]:
        """Return the people in the file; none if it does not exist, is damaged, or is older than the maximum age."""
        try:
            state = json.loads(self._path.read_text(encoding="utf-8"))
            saved_at = _seconds(state["saved_at"])
            # A device without a clock that runs while it is off does not know the age.
            age = max(0.0, time.time() - saved_at) if saved_at >= EARLIEST_TIMESTAMP.timestamp() else 0.0
            if state["version"] != _VERSION:
                raise ValueError("it has another version")
            people = {str(person_id): _person(entry, age) for person_id, entry in state["people"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
            log.warning("%s is damaged and is ignored: counting begins at 0 (%s)", self._path, type(error).__name__)
            return {}
        if age > self._max_age:
            log.info("%s is %.0f s old and is ignored: counting begins at 0", self._path, age)
            return {}
        return people

    def save(self, people: Mapping[str, PersonState]) -> None:
        """Replace the file. A failure is logged once."""
        entries = {person_id: {**state.seconds, "ago": state.ago} for person_id, state in people.items()}
        state = {"version": _VERSION, "saved_at": time.time(), "people": entries}
        new_file = self._path.with_name(f"{self._path.name}.new")
        try:
            with new_file.open("w", encoding="utf-8") as file:
                json.dump(state, file)
                file.flush()
                os.fsync(file.fileno())
            new_file.replace(self._path)
        except OSError as error:
            if not self._failed:
                log.error("%s cannot be written: a restart will begin at older seconds (%s)", self._path, error)
            self._failed = True
        else:
            self._failed = False


def _person(entry: Mapping[str, Any], age: float) -> PersonState:
    return PersonState({emotion: _seconds(entry[emotion]) for emotion in EMOTIONS}, _seconds(entry["ago"]) + age)


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ValueError("not a number of seconds")
    return float(value)
