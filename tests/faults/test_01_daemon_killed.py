"""The daemon is killed by SIGKILL: under load, and at each step of a group."""

import signal
from pathlib import Path

from tests.brokers import Broker
from tests.faults import failpoints
from tests.faults.conftest import Rounds
from tests.faults.rig import SUBSCRIBED, Rig, running


def test_kill_9_under_load(broker: Broker, database_url: str, tmp_path: Path, rounds: Rounds) -> None:
    with running(broker, database_url, tmp_path / "log") as rig:
        for starts, chance in enumerate(rounds(2, full=200), start=2):
            rig.fleet.wait_for_more(chance.randint(20, 150))
            rig.daemon.kill()
            rig.fleet.wait_for_more(chance.randint(1, 20))
            rig.daemon.start()
            rig.daemon.wait_for_log(SUBSCRIBED, times=starts)
            rig.check_receiving()

        rig.check()

        rig.check_history()


def test_kill_9_at_each_step(broker: Broker, database_url: str, tmp_path: Path, rounds: Rounds) -> None:
    with running(broker, database_url, tmp_path / "log") as rig:
        for chance in rounds(1, full=30):
            rig.daemon.kill()
            for step in chance.sample(failpoints.STEPS, len(failpoints.STEPS)):
                die_at(rig, step, group=chance.randint(1, 20))
            rig.daemon.start()
            rig.check_receiving()

        rig.check()

        rig.check_history()


def die_at(rig: Rig, step: str, *, group: int) -> None:
    """Run the daemon until it kills itself at that step of its so-manieth group."""
    rig.daemon.start(failpoints.COMMAND, FAILPOINT=f"{step}:{group}")
    assert rig.daemon.wait() == -signal.SIGKILL, f"{step} of group {group} was not reached"
