"""Count how long each person before a camera shows each emotion, and publish it. docs/camera.md is the guide.

    camera or file -> faces -> tracker -> emotion model -> EmotionCounters -> Publisher

Python 3.8 or newer, the package emotion-device, and requirements.txt. No picture is stored or sent.
"""

import argparse
import logging
import os
import signal
import sys
import threading
import time

from emotions import MODELS, EmotionModel
from faces import Faces
from source import open_source
from tracker import Tracker

from emotion_device import EmotionCounters, Publisher, Watchdog, log_to_stderr

PUBLISH_SECONDS = 1.0
MAX_GAP_SECONDS = 0.5  # a face that the detector misses for so long has not left

log = logging.getLogger("camera")


def arguments_of(argv, environ):
    """Read the arguments; deploy/device/settings has the variables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--source", default="0", help="a file, a USB camera's number, rtsp://…, or a GStreamer pipeline")
    add("--fast", action="store_true", help="read a file as fast as possible, instead of in real time")
    add("--repeat", action="store_true", help="begin a file again at its end")
    add("--model", required=True, help="the emotion model, .tflite or .onnx")
    add("--model-name", choices=MODELS, default="fer", help="its labels and input, a name in emotions.py")
    add("--faces", metavar="FILE", help="a Haar cascade (.xml) or YuNet (.onnx), instead of OpenCV's cascade")
    add("--smallest-face", type=int, default=60, metavar="PIXELS", help="ignore smaller faces")
    add("--min-confidence", type=float, default=0.0, help="time below this score counts for no emotion")
    add("--hysteresis", type=float, default=0.0, metavar="SECONDS", help="a new emotion counts after this time")
    add("--device", default=environ.get("EMOTION_DEVICE_ID", "jetson_1"), help="EMOTION_DEVICE_ID")
    add("--host", default=environ.get("EMOTION_MQTT_HOST", "localhost"), help="the broker: EMOTION_MQTT_HOST")
    add("--port", type=int, default=environ.get("EMOTION_MQTT_PORT", "1883"), help="EMOTION_MQTT_PORT")
    add("--tls-ca", default=environ.get("EMOTION_MQTT_TLS_CA") or None, help="EMOTION_MQTT_TLS_CA")
    return parser.parse_args(argv)


def main(argv, environ):
    """Run until the file ends, or until Ctrl-C or SIGTERM. Returns 1 if source or model cannot be read."""
    settings = arguments_of(argv, environ)
    log_to_stderr()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        model = EmotionModel(settings.model, settings.model_name)
        faces = Faces(settings.faces, smallest=settings.smallest_face)
        source = open_source(settings.source, fast=settings.fast, repeat=settings.repeat)
        with Publisher(
            settings.device,
            host=settings.host,
            port=settings.port,
            password=environ.get("EMOTION_MQTT_PASSWORD") or None,
            tls_ca=settings.tls_ca,
            on_reply=on_reply,
        ) as publisher:
            count(source, faces, model, publisher, settings, stop)
    except (OSError, ValueError) as error:
        log.error("%s", error)
        return 1
    return 0


def count(source, faces, model, publisher, settings, stop):
    """Count what each frame shows, and publish the seconds once a second."""
    # The tracker numbers people from 1 at each start: the prefix makes them new people.
    counters = EmotionCounters(
        max_gap=MAX_GAP_SECONDS,
        id_prefix="per-run",
        min_confidence=settings.min_confidence,
        hysteresis=settings.hysteresis,
        clock=source.clock,
    )
    tracker, watchdog = Tracker(), Watchdog()
    frames, began, published_at, slow = 0, time.monotonic(), None, False
    watchdog.ready()
    for image, at in source.frames(stop):
        watchdog.beat()
        boxes = faces.find(image)
        for person_id, (x, y, width, height) in zip(tracker.update(boxes, at), boxes):
            face = image[max(0, y) : y + height, max(0, x) : x + width]
            counters.observe(person_id, model.scores(face), at)
        frames += 1
        published_at = at if published_at is None else published_at
        if at - published_at >= PUBLISH_SECONDS:
            if not slow and frames / (at - published_at) < 1 / MAX_GAP_SECONDS:
                slow = True
                log.warning(
                    "fewer than %g frames a second: the seconds are too low, because a frame counts %g s at most."
                    " Use a smaller picture or a faster model",
                    1 / MAX_GAP_SECONDS,
                    MAX_GAP_SECONDS,
                )
            published_at = at
            publisher.publish(counters.people(), source.timestamp())
            fps = frames / (time.monotonic() - began)
            publisher.set_info(fps=fps)
            watchdog.status(f"{fps:.1f} frames a second, {len(boxes)} faces")
            frames, began = 0, time.monotonic()
    watchdog.stopping()
    publisher.publish(counters.people(), source.timestamp())


def on_reply(reply):
    """Log a batch that the daemon rejected."""
    if reply.status == "error":
        log.error("a batch was rejected: %s", reply.error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
