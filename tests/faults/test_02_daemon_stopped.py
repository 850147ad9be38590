"""The daemon is stopped by SIGTERM: under load, and while it holds a group that it cannot commit yet.

Every batch asks for an answer, and each commit is answered: two answers would mean that a batch was stored and yet
delivered again after the restart.
"""

import signal
from collections import Counter
from pathlib import Path

from tests.brokers import Broker
from tests.faults.conftest import Rounds
from tests.faults.history import Fleet
from tests.faults.rig import Rig, locked, running
from tests.waiting import wait_until

IN_TIME_SECONDS = 10.0
"""Seconds that an orchestrator waits before it kills."""


def test_sigterm_under_load(broker: Broker, database_url: str, tmp_path: Path, rounds: Rounds) -> None:
    with running(broker, database_url, tmp_path / "log", asking=True) as rig:
        for chance in rounds(2, full=50):
            rig.fleet.wait_for_more(chance.randint(20, 300))
            rig.daemon.signal(signal.SIGTERM)
            check_end(rig)
            rig.fleet.wait_for_more(chance.randint(1, 20))
            rig.daemon.start()
            rig.check_receiving()

        rig.check()

        rig.check_history()
        check_answers(rig.fleet)


def test_sigterm_with_a_group_in_hand(broker: Broker, database_url: str, tmp_path: Path, rounds: Rounds) -> None:
    with running(broker, database_url, tmp_path / "log", asking=True) as rig:
        for turn, chance in enumerate(rounds(1, full=20), start=1):
            with locked(database_url):
                rig.daemon.wait_for_log("cannot commit", times=turn)
                rig.fleet.wait_for_more(chance.randint(1, 200))
                rig.daemon.signal(signal.SIGTERM)
            check_end(rig)
            rig.daemon.start()
            rig.check_receiving()

        assert "the broker sends them again at the next start" not in rig.daemon.log()
        rig.check()
        rig.check_history()
        check_answers(rig.fleet)


def check_end(rig: Rig) -> None:
    """A signal was sent: the daemon leaves in time, and in order."""
    assert rig.daemon.wait(seconds=IN_TIME_SECONDS) == 0
    assert rig.daemon.log().endswith("emotion_daemon: stopped\n")


def check_answers(fleet: Fleet) -> None:
    """Every batch was answered, and once."""
    wait_until(lambda: fleet.answers.total() >= fleet.acknowledged, what="every batch is answered")
    assert Counter(fleet.answers.values()) == {1: fleet.acknowledged}
