"""Devices in trouble while another is well, and no API beside them, which has to do with none of it."""

import signal
from datetime import timedelta

from tests.monitoring.promtool import alert
from tests.monitoring.system import System


def test_a_device_and_an_api_are_named_for_what_is_wrong_with_them(system: System) -> None:
    trouble = [
        alert("EmotionCameraSilent", device_id="camera_1"),
        alert("EmotionDeviceSendsRubbish", device_id="camera_2"),
        alert("EmotionDeviceClockWrong", device_id="camera_3"),
        alert("EmotionApiDown"),
    ]
    with system.names_alone(*trouble):
        system.cameras["camera_1"].silent = True
        system.cameras["camera_2"].rubbish = True
        system.cameras["camera_3"].clock_skew = timedelta(minutes=-3)
        system.api.signal(signal.SIGKILL)
        system.last(*trouble, lasting=0)
        system.start_api()
        system.cameras["camera_1"].silent = False
        system.cameras["camera_2"].rubbish = False
        system.cameras["camera_3"].clock_skew = timedelta(0)
