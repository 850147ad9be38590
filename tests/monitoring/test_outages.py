"""Something is out: the alert that names it fires, and no other until all is well again.

In one file, so that one system does for all of them; test_small_disk.py has another one.
"""

import signal
import time
from datetime import timedelta

from tests.faults.rig import locked
from tests.monitoring.prometheus import seconds
from tests.monitoring.promtool import alert
from tests.monitoring.system import System

LOCKED = alert("EmotionDatabaseLocked", reason="locked")


def test_nothing_fires_while_all_is_well(system: System) -> None:
    began = time.time()
    system.pass_time(seconds(3))

    assert system.prometheus.fired_since(began) == set()


def test_a_daemon_that_was_killed_is_named_alone(system: System) -> None:
    with system.names_alone(alert("EmotionDaemonDown")):
        system.daemon.kill()
        system.last(alert("EmotionDaemonDown"))
        system.daemon.start()


def test_a_database_that_another_writer_has_locked_is_named_alone(system: System) -> None:
    with system.names_alone(LOCKED), locked(system.url):
        system.last(LOCKED)


def test_devices_and_an_api_are_named_for_what_is_wrong_with_them(system: System) -> None:
    """Each device by its own id, while another one is well; the API has to do with none of them."""
    faults = [
        alert("EmotionCameraSilent", device_id="camera_1"),
        alert("EmotionMessagesRejected", device_id="camera_2"),
        alert("EmotionDeviceClockWrong", device_id="camera_3"),
        alert("EmotionApiDown"),
    ]
    with system.names_alone(*faults):
        system.cameras["camera_1"].silent = True
        system.cameras["camera_2"].rubbish = True
        system.cameras["camera_3"].clock_skew = timedelta(minutes=-3)
        system.api.signal(signal.SIGKILL)
        system.last(*faults, lasting=0)
        system.cameras["camera_1"].silent = False
        system.cameras["camera_2"].rubbish = False
        system.cameras["camera_3"].clock_skew = timedelta(0)
        system.start_api()


def test_cameras_that_are_cut_off_at_once_are_one_alert(system: System) -> None:
    with system.names_alone(alert("EmotionAllCamerasSilent")):
        for camera in system.cameras.values():
            camera.silent = True
        system.last(alert("EmotionAllCamerasSilent"), lasting=0)
        for camera in system.cameras.values():
            camera.silent = False
