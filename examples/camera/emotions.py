"""The emotion model, on LiteRT (.tflite) or ONNX Runtime (.onnx). To plug in your own, add a line to MODELS."""

from pathlib import Path

import cv2
import numpy as np

# Name -> the labels in the order of the model's output, and how it wants its input: value = (pixel - mean) / deviation,
# pixels from 0 to 255. Size, channels and their order are read from the file. Three channels are red, green, blue.
MODELS = {
    "fer": ("angry disgust fear happy sad surprise neutral", 127.5, 127.5),
    "ferplus": ("neutral happiness surprise sadness anger disgust fear contempt", 0.0, 1.0),
    "hsemotion": (
        "anger contempt disgust fear happiness neutral sadness surprise",
        (123.675, 116.28, 103.53),
        (58.395, 57.12, 57.375),
    ),
}


class EmotionModel:
    """Returns the scores of a face. Raises OSError if the model does not load, or does not fit its line in MODELS."""

    def __init__(self, path, name):
        if not Path(path).is_file():
            raise OSError(f"the model {path!r} is not a file")
        labels, self._mean, self._deviation = MODELS[name]
        self._labels = labels.split()
        try:
            shape, self._run = _litert(path) if path.endswith(".tflite") else _onnx(path)
            self._use_input(shape)
            # The first inference may take minutes on a GPU. The start includes it.
            self.scores(np.zeros((*self._size[::-1], 3), np.uint8))
        except OSError:
            raise
        except Exception as error:  # LiteRT and ONNX Runtime raise errors of their own, or are not installed
            raise OSError(f"the model {path!r} cannot be used: {error}") from error

    def _use_input(self, shape):
        self._channels_first = shape[1:2] in ([1], [3])
        height_and_width = shape[2:4] if self._channels_first else shape[1:3]
        if len(shape) != 4 or min(height_and_width) < 2:
            raise OSError("the model has no fixed height and width: export it with a fixed input size")
        self._size = tuple(reversed(height_and_width))
        self._grey = 1 in (shape[1], shape[3])

    def scores(self, face):
        """Return {label: score} of a face, which is a part of a frame as OpenCV reads it."""
        colours = cv2.cvtColor(face, cv2.COLOR_BGR2GRAY if self._grey else cv2.COLOR_BGR2RGB)
        pixels = cv2.resize(colours, self._size).reshape(self._size[1], self._size[0], -1).astype(np.float32)
        values = ((pixels - np.float32(self._mean)) / np.float32(self._deviation)).astype(np.float32)
        output = self._run((values.transpose(2, 0, 1) if self._channels_first else values)[np.newaxis]).ravel()
        if len(output) != len(self._labels):
            raise OSError(f"the model has {len(output)} outputs, but {len(self._labels)} labels")
        if output.min() < 0 or abs(output.sum() - 1) > 0.01:  # no probabilities yet
            output = np.exp(output - output.max())
            output /= output.sum()
        return dict(zip(self._labels, output.tolist()))


def _litert(path):
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tflite_runtime.interpreter import Interpreter
    interpreter = Interpreter(model_path=path)
    interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(values):
        interpreter.set_tensor(taken["index"], values)
        interpreter.invoke()
        return interpreter.get_tensor(given["index"])

    return [int(size) for size in taken["shape"]], run


def _onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=onnxruntime.get_available_providers())
    taken = session.get_inputs()[0]
    return [size if isinstance(size, int) else 0 for size in taken.shape], lambda values: session.run(
        None, {taken.name: values}
    )[0]
