"""The labels of common emotion models, and the emotion of the daemon that each stands for. Pure."""

from __future__ import annotations

from typing import Dict, Mapping, Optional

from emotion_device.wire import EMOTIONS

LabelMap = Dict[str, Optional[str]]
"""A label in lower case -> one of the four emotions, or None if its time counts for no emotion."""

_OTHERS: LabelMap = dict.fromkeys(("surprise", "fear", "disgust", "contempt"))

MODELS: dict[str, LabelMap] = {
    "ferplus": {"neutral": "neutral", "happiness": "happy", "sadness": "sad", "anger": "angry", **_OTHERS},
    "hsemotion": {"neutral": "neutral", "happiness": "happy", "sadness": "sad", "anger": "angry", **_OTHERS},
    "uniface": {"neutral": "neutral", "happy": "happy", "sad": "sad", "angry": "angry", **_OTHERS},
    "deepface": {"neutral": "neutral", "happy": "happy", "sad": "sad", "angry": "angry", **_OTHERS},
    "fer": {"neutral": "neutral", "happy": "happy", "sad": "sad", "angry": "angry", **_OTHERS},
    "tao": {**dict.fromkeys(("surprise", "squint", "disgust", "scream")), "neutral": "neutral", "happy": "happy"},
}
"""The labels of each model. TAO EmotionNet knows neither sad nor angry."""

LABELS: LabelMap = {
    "unknown": None,
    **{label: emotion for model in MODELS.values() for label, emotion in model.items()},
}
"""The labels of all these models."""


def label_map(labels: str | Mapping[object, str | None]) -> LabelMap:
    """Return the map of a model by its name, or one's own with its labels in lower case. Raises ValueError."""
    if isinstance(labels, str):
        if labels.lower() not in MODELS:
            raise ValueError(f"labels is {labels!r:.80}, but the models are {', '.join(MODELS)}")
        return MODELS[labels.lower()]
    wrong = [emotion for emotion in labels.values() if emotion is not None and emotion not in EMOTIONS]
    if wrong:
        raise ValueError(f"labels maps to {wrong[0]!r:.80}, which is neither None nor one of {', '.join(EMOTIONS)}")
    return {str(label).lower(): emotion for label, emotion in labels.items()}
