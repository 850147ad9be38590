"""Devices in trouble while another is well: each alert has the right id."""

from datetime import timedelta

from tests.monitoring.promtool import alert
from tests.monitoring.system import System


def test_a_device_is_named_for_what_is_wrong_with_it(system: System) -> None:
    trouble = [
        alert("EmotionCameraSilent", device_id="camera_1"),
        alert("EmotionDeviceSendsRubbish", device_id="camera_2"),
        alert("EmotionDeviceClockWrong", device_id="camera_3"),
    ]
    with system.names_alone(*trouble):
        system.cameras["camera_1"].silent = True
        system.cameras["camera_2"].rubbish = True
        system.cameras["camera_3"].clock_skew = timedelta(minutes=-3)
        system.last(*trouble, lasting=0)
        system.cameras["camera_1"].silent = False
        system.cameras["camera_2"].rubbish = False
        system.cameras["camera_3"].clock_skew = timedelta(0)
