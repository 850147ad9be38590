"""Faces in a frame, with OpenCV: its Haar cascade, or YuNet, which finds more."""

import cv2
import numpy as np

_WIDEST = 960


class Faces:
    """Finds faces. `model` is a cascade (.xml) or YuNet (.onnx); by default OpenCV's own cascade."""

    def __init__(self, model=None, *, smallest=60):
        self._smallest = smallest
        self._yunet = None
        if model is not None and model.endswith(".onnx"):
            try:
                self._yunet = cv2.FaceDetectorYN.create(model, "", (320, 320), score_threshold=0.7)
                self._yunet.detect(np.zeros((320, 320, 3), np.uint8))  # an older OpenCV fails here
            except cv2.error as error:
                raise OSError(f"OpenCV {cv2.__version__} cannot read the YuNet model {model!r}") from error
        else:
            cascade = model or f"{_cascades()}haarcascade_frontalface_default.xml"
            self._cascade = cv2.CascadeClassifier(cascade)
            if self._cascade.empty():
                raise OSError(f"OpenCV cannot read the cascade {cascade!r}: pass one with --faces")

    def find(self, image):
        """Return the boxes (x, y, width, height) of the faces, in pixels of `image`."""
        scale = min(1.0, _WIDEST / image.shape[1])
        small = image if scale == 1.0 else cv2.resize(image, None, fx=scale, fy=scale)
        return [tuple(int(value / scale) for value in box) for box in self._find(small, round(self._smallest * scale))]

    def _find(self, image, smallest):
        if self._yunet is not None:
            self._yunet.setInputSize((image.shape[1], image.shape[0]))
            found = self._yunet.detect(image)[1]
            return [] if found is None else [face[:4] for face in found if face[2] >= smallest]
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        return self._cascade.detectMultiScale(grey, 1.1, 5, minSize=(smallest, smallest))


def _cascades():
    data = getattr(cv2, "data", None)  # the OpenCV of a Linux system has none
    return data.haarcascades if data else "/usr/share/opencv4/haarcascades/"
