"""Frames and their times, from a video file or a camera."""

import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import cv2

_WAIT_SECONDS = 1.0
_LATE_SECONDS = 0.5
_FAILED_FRAMES = 30


def open_source(text, *, fast=False, repeat=False):
    """Open a file, the number of a USB camera, an address like rtsp://…, or a GStreamer pipeline. Raises OSError."""
    if Path(text).is_file():
        return Video(text, fast=fast, repeat=repeat)
    return Camera(text)


def _capture(text):
    if text.isdecimal():
        capture = cv2.VideoCapture(int(text))
    elif " ! " in text:
        capture = cv2.VideoCapture(text, cv2.CAP_GSTREAMER)
    else:
        capture = cv2.VideoCapture(text)
    if not capture.isOpened():
        raise OSError(f"OpenCV cannot open the source {text.split('@')[-1]!r}: is it a file, a camera or a pipeline?")
    return capture


class Video:
    """A file, in real time or as fast as possible. Its time begins at 0 and does not depend on this machine's speed."""

    def __init__(self, path, *, fast, repeat):
        self._path, self._fast, self._repeat = path, fast, repeat
        self._file = _capture(path)
        self._frame_seconds = 1 / (self._file.get(cv2.CAP_PROP_FPS) or 25)
        self._begin = datetime.now(timezone.utc)
        if fast:  # the video ends now: its seconds have then passed, and the daemon's history takes them
            frames = max(0, self._file.get(cv2.CAP_PROP_FRAME_COUNT))
            self._begin -= timedelta(seconds=frames * self._frame_seconds)
        self._now = 0.0

    def clock(self):
        """Return the time of the newest frame."""
        return self._now

    def timestamp(self):
        """Return the time of the newest frame as the daemon gets it."""
        return self._begin + timedelta(seconds=self._now)

    def frames(self, stop):
        """Yield each frame and its time, until the end of the file or `stop`. None: no frame is due yet."""
        started = time.monotonic()
        number = 0
        while not stop.is_set():
            self._now = number * self._frame_seconds
            number += 1
            late = time.monotonic() - started - self._now
            if not self._fast and late > _LATE_SECONDS and self._file.grab():
                continue  # this machine is too slow for every frame
            taken, image = self._file.read()
            if not taken:
                if not self._repeat or number == 1:
                    return
                self._file = _capture(self._path)
                continue
            while not self._fast and not stop.is_set() and (early := started + self._now - time.monotonic()) > 0:
                stop.wait(min(early, _WAIT_SECONDS))
            yield image, self._now


class Camera:
    """A live source. A thread reads all frames, and the program gets the newest one: it never lags behind."""

    def __init__(self, text):
        self._capture = _capture(text)
        self._condition = threading.Condition()
        self._newest = None
        self._ended = False
        threading.Thread(target=self._read, name="camera", daemon=True).start()

    @staticmethod
    def clock():
        """Return the time by which frames are dated."""
        return time.monotonic()

    @staticmethod
    def timestamp():
        """Return the time of day."""
        return datetime.now(timezone.utc)

    def frames(self, stop):
        """Yield the newest frame and its time, until `stop`. Raises OSError if the camera delivers no more frames."""
        while not stop.is_set():
            with self._condition:
                self._condition.wait_for(lambda: self._newest or self._ended, timeout=_WAIT_SECONDS)
                frame, self._newest = self._newest, None
            if frame is not None:
                yield frame
            elif self._ended:
                raise OSError("the camera delivers no more frames")

    def _read(self):
        failed = 0
        while failed < _FAILED_FRAMES:
            taken, image = self._capture.read()
            failed = 0 if taken else failed + 1
            with self._condition:
                self._newest = (image, time.monotonic()) if taken else self._newest
                self._ended = failed == _FAILED_FRAMES
                self._condition.notify()
