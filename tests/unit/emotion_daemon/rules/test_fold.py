"""The changes of a group of batches, against a model that applies them one after the other."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from emotion_daemon.rules.fold import Folded, PersonKey, Report, StoredState, fold
from emotion_daemon.rules.totals_fold import fold_totals
from shared.batch import Batch, Cumulative

NOON = datetime(2025, 11, 14, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def batch(seconds: float, device_id: str = "jetson_1", **happy: float) -> Batch:
    """A batch of `seconds` after noon, in which each named person has been happy for so long."""
    return Batch(
        device_id, at(seconds), {person: Cumulative(happy=value) for person, value in happy.items()}, at(seconds)
    )


ANNA: PersonKey = ("jetson_1", "anna")


def known(**seconds: float) -> StoredState:
    """Return a stored state: people and the seconds after noon at which they were last seen."""
    return StoredState(
        {("jetson_1", person): Report(Cumulative(), at(last_seen)) for person, last_seen in seconds.items()}
    )


def added(folded: Folded) -> float:
    """Seconds that the history gets."""
    return sum(sum(row[2:6]) for row in folded.minutes.rows())


def test_no_batches_change_nothing() -> None:
    folded = fold([])

    assert (folded.people, folded.devices, list(folded.minutes.rows()), folded.updated_counts) == ({}, {}, [], [])


def test_a_person_has_what_the_batch_says_and_its_stamp() -> None:
    folded = fold([batch(0, anna=1)])

    assert said(folded.people) == {ANNA: (Cumulative(happy=1), at(0))}


def test_the_newest_of_several_batches_counts() -> None:
    folded = fold([batch(0, anna=1), batch(1, anna=2), batch(2, anna=3)])

    assert said(folded.people) == {ANNA: (Cumulative(happy=3), at(2))}
    assert folded.updated_counts == [1, 1, 1]


def test_a_late_batch_changes_nothing() -> None:
    folded = fold([batch(2, anna=3), batch(1, anna=2)])

    assert said(folded.people) == {ANNA: (Cumulative(happy=3), at(2))}
    assert folded.updated_counts == [1, 0]


def test_a_batch_later_than_what_is_stored_changes_the_person() -> None:
    folded = fold([batch(2, anna=3)], known(anna=1))

    assert said(folded.people) == {ANNA: (Cumulative(happy=3), at(2))}


def test_a_batch_older_than_what_is_stored_changes_nothing() -> None:
    folded = fold([batch(1, anna=3)], known(anna=2))

    assert said(folded.people) == {}
    assert folded.updated_counts == [0]


def test_a_batch_as_old_as_what_is_stored_is_applied_again() -> None:
    folded = fold([batch(2, anna=3)], known(anna=2))

    assert said(folded.people) == {ANNA: (Cumulative(happy=3), at(2))}
    assert folded.updated_counts == [1]


def test_of_two_batches_with_one_stamp_the_last_to_arrive_counts() -> None:
    folded = fold([batch(0, anna=1), batch(0, anna=2)])

    assert said(folded.people) == {ANNA: (Cumulative(happy=2), at(0))}


def test_one_microsecond_decides() -> None:
    folded = fold([batch(0.000001, anna=2), batch(0, anna=1)])

    assert said(folded.people) == {ANNA: (Cumulative(happy=2), at(0.000001))}


def test_a_counter_that_started_again_is_stored_as_it_is() -> None:
    folded = fold([batch(0, anna=100), batch(1, anna=0)])

    assert folded.people[ANNA].cumulative == Cumulative(happy=0)


def test_a_batch_says_nothing_about_who_is_not_in_it() -> None:
    folded = fold([batch(0, anna=1), batch(1, bert=2)])

    assert said(folded.people)[ANNA] == (Cumulative(happy=1), at(0))


def test_the_same_person_id_on_two_devices_is_two_people() -> None:
    folded = fold([batch(0, "a", anna=1), batch(1, "b", anna=2)])

    assert said(folded.people) == {
        ("a", "anna"): (Cumulative(happy=1), at(0)),
        ("b", "anna"): (Cumulative(happy=2), at(1)),
    }


def test_an_empty_batch_moves_its_device_and_counts_nobody() -> None:
    folded = fold([batch(5)])

    assert (folded.people, folded.devices, folded.updated_counts) == ({}, {"jetson_1": batch(5)}, [0])


def test_a_late_batch_does_not_move_its_device_back() -> None:
    folded = fold([batch(5), batch(3)])

    assert folded.devices == {"jetson_1": batch(5)}


def test_the_count_is_of_the_people_who_changed() -> None:
    folded = fold([batch(1, anna=1, bert=1, carl=1)], known(anna=2, bert=0))

    assert folded.updated_counts == [2]


# --- against a model ------------------------------------------------------------------------------------------------

_people = st.dictionaries(
    st.sampled_from(["1", "2", "3"]),
    st.builds(Cumulative, happy=st.floats(0, 1e6), sad=st.floats(0, 1e6)),
    max_size=3,
)
_stamps = st.integers(0, 5).map(at)
_batches = st.lists(st.builds(Batch, st.sampled_from(["a", "b"]), _stamps, _people, st.none()), max_size=12)

Table = dict[PersonKey, Report]


def apply_one_by_one(batches: list[Batch], table: Table) -> tuple[Table, list[int]]:
    """The contract, word for word: a batch older than the row changes nothing for that person."""
    table = dict(table)
    counts = []
    for one in batches:
        changed = 0
        for person_id, cumulative in one.people.items():
            row = table.get((one.device_id, person_id))
            if row is not None and one.timestamp < row.last_seen:
                continue
            table[one.device_id, person_id] = Report(cumulative, one.timestamp)
            changed += 1
        counts.append(changed)
    return table, counts


def said(table: Table) -> dict[PersonKey, tuple[Cumulative, datetime]]:
    """Return the reports of devices, without the time that people may use later."""
    return {key: (report.cumulative, report.last_seen) for key, report in table.items()}


def knowing(folded: Folded) -> StoredState:
    """Return the stored state after a group was committed."""
    return StoredState(folded.people, {device_id: batch.timestamp for device_id, batch in folded.devices.items()})


@given(_batches, _batches)
def test_folding_equals_applying_batch_after_batch(earlier: list[Batch], batches: list[Batch]) -> None:
    table, _ = apply_one_by_one(earlier, {})
    expected, counts = apply_one_by_one(batches, table)
    folded = fold(batches, StoredState(table))

    assert said(table | folded.people) == said(expected)
    assert folded.updated_counts == counts


@given(_batches, st.integers(0, 12))
def test_where_a_stream_is_cut_into_groups_makes_no_difference(batches: list[Batch], cut: int) -> None:
    whole = fold(batches)
    first = fold(batches[:cut])
    second = fold(batches[cut:], knowing(first))

    assert first.people | second.people == whole.people
    assert first.updated_counts + second.updated_counts == whole.updated_counts


@given(_batches)
def test_a_group_that_comes_again_changes_nothing(batches: list[Batch]) -> None:
    once = fold(batches)
    again = fold(batches, knowing(once))

    assert said(once.people | again.people) == said(once.people)


@given(_batches)
def test_devices_have_their_newest_stamp_whatever_the_order(batches: list[Batch]) -> None:
    folded = fold(reversed(batches))

    assert {device_id: newest.timestamp for device_id, newest in folded.devices.items()} == {
        device_id: max(one.timestamp for one in batches if one.device_id == device_id)
        for device_id in {one.device_id for one in batches}
    }


def test_known_people_who_are_not_in_a_batch_are_not_written() -> None:
    folded = fold([batch(1, anna=1)], known(bert=0))

    assert folded.people.keys() == {ANNA}


# --- where no people are stored -------------------------------------------------------------------------------------


def test_what_is_newer_is_folded_the_same() -> None:
    earlier = StoredState({ANNA: Report(Cumulative(5), at(0))}, {"jetson_1": at(0)})
    batches = [batch(1, anna=6), batch(3, anna=8, bert=1), batch(4, "jetson_2", carl=1)]

    newer, all_of_them = fold_totals(batches, earlier), fold(batches, earlier)
    assert newer._replace(minutes=all_of_them.minutes, clocks=all_of_them.clocks) == all_of_them
    assert list(newer.minutes.rows()) == list(all_of_them.minutes.rows())


def test_a_batch_that_is_not_newer_adds_nothing() -> None:
    earlier = StoredState({ANNA: Report(Cumulative(5), at(0))}, {"jetson_1": at(10)})
    late = batch(9, anna=9)

    folded = fold_totals([late, batch(10, anna=9), batch(12, anna=11), batch(12, anna=12)], earlier)

    assert folded.updated_counts == [0, 0, 1, 0]
    assert added(folded) == 2


def test_a_late_batch_says_nothing_about_its_device() -> None:
    late, known = batch(9, anna=9, bert=9), StoredState({}, {"jetson_1": at(10)})

    assert fold_totals([late], known).heard == fold([late], known).heard == {}


def test_what_another_daemon_has_counted_is_known_and_not_counted_again() -> None:
    earlier = StoredState({ANNA: Report(Cumulative(5), at(0))}, {"jetson_1": at(2)})

    folded = fold_totals([batch(1, anna=6, bert=1), batch(2, anna=7, bert=2)], earlier)
    assert said(folded.people) == {ANNA: (Cumulative(7), at(2)), ("jetson_1", "bert"): (Cumulative(2), at(2))}
    assert added(folded) == 0

    folded = fold_totals([batch(1, anna=6), batch(2, anna=7), batch(3, anna=8)], earlier)
    assert said(folded.people) == {ANNA: (Cumulative(8), at(3))}
    assert added(folded) == 1


def test_what_came_late_between_others_is_no_step_back() -> None:
    earlier = StoredState({ANNA: Report(Cumulative(5), at(0))}, {"jetson_1": at(0)})

    folded = fold_totals([batch(2, anna=7), batch(1, anna=6), batch(3, anna=8)], earlier)

    assert said(folded.people) == {ANNA: (Cumulative(8), at(3))}
    assert added(folded) == 3


def test_a_counter_that_is_only_rounded_otherwise_is_no_activity() -> None:
    """Two names stay at 5 s, one of them written as 5.0004 in every other batch."""
    batches = [batch(second, anna=5.0 + second % 2 * 0.0004, bert=5.0) for second in range(60)]
    folded = fold(batches[:1])
    for each in batches[1:]:
        folded = fold([each], StoredState(folded.people, {"jetson_1": folded.devices["jetson_1"].timestamp}))

    assert folded.heard["jetson_1"].in_view == 0
    assert folded.people[ANNA].active_at == at(0)
