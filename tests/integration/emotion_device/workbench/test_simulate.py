"""`python -m emotion_device simulate` as its user runs it."""

import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.batch import DecodeError, decode
from tests.brokers import Broker
from tests.integration.emotion_device.test_publisher import Listener
from tests.processes import without_settings
from tests.waiting import free_port, wait_until


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "emotion_device", "simulate", *arguments]


def run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), env=without_settings() | extra, capture_output=True, text=True, timeout=60, check=False
    )


def test_three_cameras_publish_valid_batches_and_say_offline_at_the_end(broker: Broker, topic_prefix: str) -> None:
    with Listener(broker, topic_prefix) as listener:
        done = run("--duration", "2", "--rate", "5", EMOTION_MQTT_HOST=broker.host, EMOTION_MQTT_PORT=str(broker.port))
        wait_until(lambda: listener.statuses.count(b"offline") == 3)

    devices = {
        decode(payload, device_id=batch["device_id"], received_at=datetime.now(UTC)).device_id
        for payload, batch in zip(listener.payloads, listener.batches, strict=True)
    }
    assert devices == {"jetson_1", "jetson_2", "jetson_3"}
    assert done.returncode == 0
    assert "3 devices in 2 s" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_summary(broker: Broker, topic_prefix: str, number: signal.Signals) -> None:
    with Listener(broker, topic_prefix) as listener:
        process = subprocess.Popen(
            command("--host", broker.host, "--port", str(broker.port), "--devices", "2", "--rate", "10"),
            env=without_settings(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: len(listener.batches) >= 4)
        process.send_signal(number)
        summary, _ = process.communicate(timeout=15)

    assert process.returncode == 0
    assert summary.startswith("2 devices in ")


def test_malformed_messages_are_sent_beside_the_batches(broker: Broker, topic_prefix: str) -> None:
    with Listener(broker, topic_prefix) as listener:
        target = ("--host", broker.host, "--port", str(broker.port), "--devices", "1")
        run(*target, "--duration", "3", "--rate", "20", "--malformed", "0.5")

    refused = 0
    for payload in listener.payloads:
        try:
            decode(payload, device_id="jetson_1", received_at=datetime.now(UTC))
        except DecodeError:
            refused += 1
    assert 5 < refused < len(listener.payloads) - 5


def test_a_run_that_reaches_no_broker_fails() -> None:
    done = run("--duration", "0.5", "--port", str(free_port()))

    assert done.returncode == 1
    assert "cannot reach the broker" in done.stderr
    assert done.stderr.rstrip().endswith("the broker took nothing in all this time")


def test_each_camera_logs_in_with_its_own_password(
    start_broker: Callable[[str], Broker], topic_prefix: str, tmp_path: Path
) -> None:
    hashed, plain = tmp_path / "hashed", tmp_path / "plain"
    hashed.touch()
    plain.write_text("jetson_1:first\njetson_2:second\n")
    for login in (("jetson_1", "first"), ("jetson_2", "second")):
        subprocess.run(["mosquitto_passwd", "-b", hashed, *login], check=True, capture_output=True)
    broker = start_broker(f"allow_anonymous false\npassword_file {hashed}")

    target = ("--host", broker.host, "--port", str(broker.port), "--devices", "2", "--password-file", str(plain))
    done = run(*target, "--duration", "1", "--rate", "5")

    assert done.returncode == 0
    assert "refused" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--rate", "0"], "--rate: is '0', but it is a number from 0.001 to 100"),
        (["--rate", "nan"], "--rate: is 'nan'"),
        (["--devices", "none"], "--devices: is 'none', but it is a whole number from 1 to 5000"),
        (["--clock-skew", "jetson_9=60"], "--clock-skew names 'jetson_9', but the devices are jetson_1 to jetson_3"),
        (["--clock-skew", "late"], "--clock-skew: is 'late'"),
        (["--device-prefix", "my camera"], "--device-prefix: is 'my camera', but a device id is"),
        (["--tls-ca", "no-such-file"], "tls_ca 'no-such-file' is not a readable file"),
        (["--password-file", "no-such-file"], "--password-file 'no-such-file' cannot be read"),
        (["--prefix", "a/#"], "topic_prefix 'a/#' is not a topic"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_code_2(arguments: list[str], sentence: str) -> None:
    done = run(*arguments)

    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_wrong_setting_is_one_sentence_and_code_2() -> None:
    done = run(EMOTION_MQTT_PORT="many")

    assert done.returncode == 2
    assert done.stderr == (
        "python -m emotion_device: EMOTION_MQTT_PORT is 'many', but a port is a number from 1 to 65535\n"
    )
