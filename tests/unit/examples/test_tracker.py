"""The tracker of examples/camera."""

import importlib.util

from tests.processes import ROOT

_spec = importlib.util.spec_from_file_location("tracker", ROOT / "examples" / "camera" / "tracker.py")
assert _spec is not None
assert _spec.loader is not None
tracker = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tracker)

LEFT, RIGHT = (100, 100, 80, 80), (300, 100, 80, 80)


def moved(box: tuple[int, int, int, int], x: int) -> tuple[int, int, int, int]:
    return (box[0] + x, *box[1:])


def test_people_keep_their_ids_while_they_move() -> None:
    people = tracker.Tracker()

    ids = [people.update([moved(LEFT, 20 * frame), moved(RIGHT, 20 * frame)], frame / 10) for frame in range(5)]

    assert ids == [[1, 2]] * 5


def test_the_order_of_the_boxes_does_not_matter() -> None:
    people = tracker.Tracker()
    people.update([LEFT, RIGHT], 0.0)

    assert people.update([RIGHT, LEFT], 0.1) == [2, 1]


def test_the_larger_overlap_wins_and_the_other_face_is_new() -> None:
    people = tracker.Tracker()
    people.update([LEFT], 0.0)

    assert people.update([moved(LEFT, 40), moved(LEFT, 10)], 0.1) == [2, 1]


def test_a_face_that_is_missed_for_a_moment_is_the_same_person() -> None:
    people = tracker.Tracker()
    people.update([LEFT], 0.0)
    people.update([], 0.5)

    assert people.update([LEFT], 0.9) == [1]


def test_a_face_that_was_away_for_longer_is_a_new_person() -> None:
    people = tracker.Tracker()
    people.update([LEFT], 0.0)

    assert people.update([LEFT], 1.1) == [2]
