"""Broker or daemon away: the alert that names the part fires, and no other until all is well again."""

import time

from tests.monitoring.prometheus import seconds
from tests.monitoring.promtool import alert
from tests.monitoring.system import System


def test_nothing_fires_while_all_is_well(system: System) -> None:
    began = time.time()
    system.pass_time(seconds(3))

    assert system.prometheus.fired_since(began) == set()


def test_a_broker_that_is_stopped_is_named_alone(system: System) -> None:
    with system.names_alone(alert("EmotionBrokerDown")):
        system.broker.stop()
        system.last(alert("EmotionBrokerDown"))
        system.broker.start()


def test_a_daemon_that_was_killed_is_named_alone(system: System) -> None:
    with system.names_alone(alert("EmotionDaemonDown")):
        system.daemon.kill()
        system.last(alert("EmotionDaemonDown"))
        system.daemon.start()
