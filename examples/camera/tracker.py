"""Ids for faces: a face that overlaps one of the last frames is the same person."""

_LEAST_OVERLAP = 0.2
_LOST_SECONDS = 1.0


class Tracker:
    """Numbers people from 1. A person who is out of view for a second gets a new id."""

    def __init__(self):
        self._last_id = 0
        self._tracks = {}

    def update(self, boxes, at):
        """Return the id of each box of a frame at the time `at`."""
        self._tracks = {key: seen for key, seen in self._tracks.items() if at - seen[1] <= _LOST_SECONDS}
        pairs = [(_overlap(box, seen[0]), n, key) for n, box in enumerate(boxes) for key, seen in self._tracks.items()]
        ids = {}
        for overlap, number, key in sorted(pairs, reverse=True):
            if overlap >= _LEAST_OVERLAP and number not in ids and key not in ids.values():
                ids[number] = key
        for number, box in enumerate(boxes):
            if number not in ids:
                self._last_id += 1
                ids[number] = self._last_id
            self._tracks[ids[number]] = (box, at)
        return [ids[number] for number in range(len(boxes))]


def _overlap(one, other):
    """Return the common area of two boxes as a share of the area that both cover."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    common = max(0, width) * max(0, height)
    return common / (one[2] * one[3] + other[2] * other[3] - common)
