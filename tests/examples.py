"""The README's batch, the summary that follows from it, and batches that differ from a valid one in some values."""

from typing import Any

README_PAYLOAD = (
    '{"device_id": "jetson_1", "timestamp": "2025-11-14T12:34:56Z",\n'
    ' "people": [{"person_id": "1", "cumulative": {"happy": 123.5, "sad": 20.0, "angry": 10.0}}]}'
)
README_SUMMARY: dict[str, Any] = {
    "device_id": "jetson_1",
    "device_name": "Entrance Camera",
    "updated_at": "2025-11-14T12:34:56Z",
    "emotion_totals": {"happy": 123.5, "sad": 20.0, "angry": 10.0, "neutral": 0.0},
    "history_totals": {"happy": 0.0, "sad": 0.0, "angry": 0.0, "neutral": 0.0},
    "now": {"people": 1, "seconds": {"happy": 0.0, "sad": 0.0, "angry": 0.0, "neutral": 0.0}},
    "current_people": [
        {
            "person_id": "1",
            "current_emotion": "happy",
            "time_happy": 123.5,
            "time_sad": 20.0,
            "time_angry": 10.0,
            "time_neutral": 0.0,
            "last_seen": "2025-11-14T12:34:56Z",
            "active_at": "2025-11-14T12:34:56Z",
            "emotion_now": "happy",
        }
    ],
}


def payload(
    *,
    device_id: str = '"jetson_1"',
    timestamp: str = '"2025-11-14T12:34:56Z"',
    person_id: str = '"1"',
    cumulative: str = '{"happy": 1}',
    more: str = "",
) -> bytes:
    """A valid payload in which some values, written as JSON, are replaced."""
    person = f'{{"person_id": {person_id}, "cumulative": {cumulative}}}'
    return f'{{"device_id": {device_id}, "timestamp": {timestamp}, "people": [{person}]{more}}}'.encode()
