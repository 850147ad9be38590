"""Tombstones remove erased people from batches, and do not contain the id."""

from datetime import UTC, datetime, timedelta

import pytest

from emotion_daemon.rules.clock_fallback import Placed
from emotion_daemon.rules.fold import Report, StoredState, fold
from emotion_daemon.rules.tombstones import Tombstone, Tombstones, by_device, digest, suppressed
from shared.batch import Batch, Cumulative

NOON = datetime(2025, 11, 14, 12, tzinfo=UTC)
SALT, OTHER_SALT = b"s" * 16, b"t" * 16
SHOWN = Cumulative(happy=5)


def tombstones(*people: str, device_id: str = "jetson_1", salt: bytes = SALT, until: datetime = NOON) -> Tombstones:
    return by_device(Tombstone(device_id, salt, digest(person_id, salt), until) for person_id in people)


def batch(*people: str, seconds: float = 0, device_id: str = "jetson_1", skew: timedelta | None = None) -> Batch:
    stamp = NOON + timedelta(seconds=seconds)
    return Batch(device_id, stamp, dict.fromkeys(people, SHOWN), stamp, skew)


def remaining(each: Batch, erased: Tombstones) -> Batch:
    return suppressed(Placed(each), erased)[0].batch


def count(each: Batch, erased: Tombstones) -> int:
    return suppressed(Placed(each), erased)[1]


class TestSuppressed:
    def test_an_erased_person_is_suppressed_and_the_others_stay(self) -> None:
        assert list(remaining(batch("anna", "bert"), tombstones("anna")).people) == ["bert"]
        assert count(batch("anna", "bert"), tombstones("anna")) == 1

    def test_nothing_else_of_the_batch_changes(self) -> None:
        assert remaining(batch("anna"), tombstones("anna")) == batch()

    @pytest.mark.parametrize(("seconds", "number"), [(-1, 1), (0, 1), (0.000001, 0), (1, 0)])
    def test_what_is_stamped_later_comes_in(self, seconds: float, number: int) -> None:
        assert count(batch("anna", seconds=seconds), tombstones("anna")) == number

    def test_a_stamp_that_was_replaced_does_not_say_how_old_the_batch_is(self) -> None:
        late = batch("anna", seconds=3600, skew=timedelta(days=-20_000))

        assert count(late, tombstones("anna")) == 1

    def test_the_same_id_at_another_device_is_another_person(self) -> None:
        assert count(batch("anna", device_id="jetson_2"), {**tombstones("anna"), "jetson_2": {}}) == 0

    def test_each_salt_of_a_device_is_tried(self) -> None:
        both = {"jetson_1": {**tombstones("anna")["jetson_1"], **tombstones("bert", salt=OTHER_SALT)["jetson_1"]}}

        assert list(remaining(batch("anna", "bert", "carl"), both).people) == ["carl"]

    def test_of_two_tombstones_the_later_counts(self) -> None:
        later = tombstones("anna", salt=OTHER_SALT, until=NOON + timedelta(hours=1))
        both = {"jetson_1": {**tombstones("anna")["jetson_1"], **later["jetson_1"]}}

        assert count(batch("anna", seconds=60), both) == 1


def test_a_digest_does_not_have_the_id_and_needs_its_salt() -> None:
    assert b"anna" not in digest("anna", SALT)
    assert digest("anna", SALT) != digest("anna", OTHER_SALT)
    assert len(digest("x" * 128, SALT)) == 32


class TestFold:
    def test_neither_people_nor_history_nor_counts_have_who_was_erased(self) -> None:
        later = NOON + timedelta(seconds=30)
        known = StoredState({}, {"jetson_1": NOON + timedelta(seconds=20)}, tombstones("anna", until=later))
        folded = fold([batch("anna", "bert", seconds=30)], known)

        assert list(folded.people) == [("jetson_1", "bert")]
        assert [row[2:] for row in folded.minutes.rows()] == [(5.0, 0.0, 0.0, 0.0, 1, 10.0)]
        assert folded.updated_counts == [1]
        assert [len(each.batch.people) for each in folded.heard.values()] == [1]
        assert folded.suppressed == 1

    def test_the_device_gets_its_stamp_all_the_same(self) -> None:
        folded = fold([batch("anna")], StoredState(tombstones=tombstones("anna")))

        assert [each.timestamp for each in folded.devices.values()] == [NOON]

    def test_what_is_remembered_of_them_does_not_count(self) -> None:
        remembered = {("jetson_1", "anna"): Report(Cumulative(), NOON)}

        assert fold([batch("anna")], StoredState(remembered, tombstones=tombstones("anna"))).people == {}
