"""A simulated day through the database: what the API answers of it against what the simulator knows."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import fsum

import msgspec
import pytest

from emotion_daemon.rules.fold import fold
from emotion_daemon.storage.store import Store
from emotion_device.workbench.simulator import SimulatedDevice, Troubles
from shared.batch import EMOTIONS, Batch, decode, encode
from shared.settings import Settings
from tests.databases import migrated
from tests.web import HISTORY, served

DEVICE = "jetson_1"
MIDNIGHT = datetime(2025, 11, 14, tzinfo=UTC)
SECONDS = 86_400
GROUP = 100


def batches(device: SimulatedDevice) -> Iterator[Batch]:
    """A batch a second, each through the door that a message comes in by."""
    for second in range(1, SECONDS + 1):
        now = MIDNIGHT + timedelta(seconds=second)
        step = device.step(timedelta(seconds=1), now=now)
        yield decode(encode(DEVICE, step.timestamp, step.people), device_id=DEVICE, received_at=now)


def test_a_day_of_restarts_with_a_daemon_that_starts_again_is_answered_within_one_percent(sqlite_url: str) -> None:
    """Every hour a new daemon gets the last group once more, as after a crash between commit and acknowledgement."""
    troubles = Troubles(restart_every=timedelta(minutes=7), clock_skew=timedelta(minutes=-30))
    device = SimulatedDevice(DEVICE, seed=3, index=0, most_people=5, troubles=troubles)
    with migrated(sqlite_url) as engine:
        store = Store(engine, now=lambda: MIDNIGHT + timedelta(days=1))
        group: list[Batch] = []
        for number, batch in enumerate(batches(device), 1):
            group.append(batch)
            if len(group) == GROUP:
                commit(store, group)
                if number % 3_600 == 0:
                    store = Store(engine, now=lambda: MIDNIGHT + timedelta(days=1))
                    commit(store, [msgspec.structs.replace(each, received_at=None) for each in group])
                group.clear()

    with served(Settings(database_url=sqlite_url)) as client:
        answer = client.get(f"{HISTORY}?device_id={DEVICE}&start=2025-11-13T23:00:00Z&end=2025-11-15T00:00:00Z").json
    assert answer is not None
    shown = {emotion: fsum(point[emotion] for point in answer["points"]) for emotion in EMOTIONS}
    assert shown == pytest.approx(device.truth, rel=0.01)
    assert max(point["most_people"] for point in answer["points"]) == 5


def commit(store: Store, group: list[Batch]) -> None:
    with store.transaction() as transaction:
        transaction.write(fold(group, transaction.read_state(group)))
