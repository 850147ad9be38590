"""The seconds of each emotion in a video; run by the example's Python, not by ours.

    camera_truth.py MODEL VIDEO

Reads VIDEO, finds faces, and has the model label each one: frames times the duration of a frame. It shares no code with
examples/camera, tracks no faces and knows no counters.
"""

import collections
import json
import sys

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter

SMALLEST_FACE = 40
LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def seconds(model: str, video: str) -> dict[str, float]:
    interpreter = Interpreter(model_path=model)
    interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    cascade = cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_frontalface_default.xml")
    capture = cv2.VideoCapture(video)
    frames: collections.Counter[str] = collections.Counter()
    while True:
        read, image = capture.read()
        if not read:
            return {label: frames[label] / capture.get(cv2.CAP_PROP_FPS) for label in LABELS}
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        for x, y, width, height in cascade.detectMultiScale(grey, 1.1, 5, minSize=(SMALLEST_FACE, SMALLEST_FACE)):
            face = cv2.resize(grey[y : y + height, x : x + width], (64, 64)).astype(np.float32)
            interpreter.set_tensor(taken, (face / 127.5 - 1)[None, :, :, None])
            interpreter.invoke()
            frames[LABELS[int(interpreter.get_tensor(given).argmax())]] += 1


if __name__ == "__main__":
    sys.stdout.write(json.dumps(seconds(*sys.argv[1:])))
