"""`scripts/tls off`: the certificate goes only after devices can use port 1883."""

from pathlib import Path

import pytest

from tests.integration.emotion_admin.played import run_script

OPENING = {"compose": "* up *gate", "systemd": "restart mosquitto"}
"""The call after which devices can use port 1883."""


@pytest.fixture
def listener(tmp_path: Path) -> Path:
    """The system's folder with TLS turned on: the file that turns it on under systemd."""
    (tmp_path / ".env").write_text("MQTT_LISTENER=8883\nMQTT_PORT=8883\n")
    listener = tmp_path / "etc" / "mosquitto" / "conf.d" / "emotion-analytics-tls.conf"
    certificate = tmp_path / "etc" / "emotion-analytics" / "secrets" / "broker" / "server.crt"
    for file in (listener, certificate):
        file.parent.mkdir(parents=True)
        file.touch()
    return listener


@pytest.mark.parametrize("system", OPENING)
def test_port_1883_comes_before_the_certificate_goes(listener: Path, tmp_path: Path, system: str) -> None:
    done, calls = run_script(tmp_path, "tls", "--system", system, "off")

    assert done.returncode == 0
    assert "TLS is off" in done.stderr
    (opened,) = (number for number, call in enumerate(calls) if call.endswith(OPENING[system].rsplit("*", 1)[-1]))
    (removed,) = (number for number, call in enumerate(calls) if call.endswith("certificate remove"))
    assert opened < removed
    assert listener.exists() == (system == "compose")
    assert ("MQTT_LISTENER=1883" in (tmp_path / ".env").read_text()) == (system == "compose")


@pytest.mark.parametrize("system", OPENING)
def test_a_port_that_does_not_open_leaves_tls_on(listener: Path, tmp_path: Path, system: str) -> None:
    done, calls = run_script(tmp_path, "tls", "--system", system, "off", at=OPENING[system], fault="exit 1")

    assert done.returncode == 1
    assert "TLS could not be turned off, see above: this goes back to the state before" in done.stderr
    assert not [call for call in calls if "certificate remove" in call]
    assert listener.exists()
    assert "MQTT_LISTENER=8883" in (tmp_path / ".env").read_text()
