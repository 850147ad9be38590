"""The rules by which rows become a summary."""

import inspect
import math
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_api.bad_request import BadRequest
from emotion_api.summary import (
    PEOPLE_A_PIECE,
    DeviceInfo,
    Emotion,
    EmotionTotals,
    PeoplePage,
    Person,
    PersonRow,
    Summary,
    current_emotion,
    encode_summary,
    listed,
)
from shared.batch import EMOTIONS, MAX_PERSON_ID

NOON = datetime(2025, 11, 14, 12, tzinfo=UTC)

seconds = st.floats(min_value=0, allow_infinity=False, allow_nan=False)
person_ids = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=MAX_PERSON_ID)
emotions = st.sampled_from([None, *get_args(Emotion)])
stamps = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
rows = st.lists(
    st.tuples(person_ids, seconds, seconds, seconds, seconds, emotions, st.none() | stamps, stamps),
    unique_by=lambda row: row[0],
    max_size=20,
)


def no_pause() -> None:
    """Does nothing between two steps."""


def row(
    person_id: str = "1",
    *,
    happy: float = 0.0,
    sad: float = 0.0,
    active_at: datetime | None = None,
    last_seen: datetime = NOON,
) -> PersonRow:
    return person_id, happy, sad, 0.0, 0.0, None, active_at, last_seen


HALL = DeviceInfo("jetson_1", "Hall", NOON)


def json_of(*people: PersonRow, info: DeviceInfo = HALL, at_once: int = 1_000) -> bytes:
    """The summary's JSON if the people are read in lists of `at_once`."""
    lists = [list(people[start : start + at_once]) for start in range(0, len(people), at_once)]
    return b"".join(encode_summary(info, lists, pause=no_pause))


def summary_of(*people: PersonRow) -> Summary:
    return msgspec.json.decode(json_of(*people), type=Summary)


def ids(summary: Summary) -> list[str]:
    return [person.person_id for person in summary.current_people]


def test_totals_are_the_sums_over_all_people() -> None:
    summary = summary_of(row("1", happy=1.5, sad=2.0), row("2", happy=3.0))

    assert msgspec.structs.astuple(summary.emotion_totals) == (4.5, 2.0, 0.0, 0.0)


def test_a_sum_beyond_the_largest_float_stays_the_largest_float() -> None:
    summary = summary_of(row("1", happy=1e308), row("2", happy=1e308))

    assert summary.emotion_totals.happy == sys.float_info.max


def test_a_device_without_people_has_zero_totals() -> None:
    assert json_of(info=DeviceInfo("nobody", "nobody", None)) == (
        b'{"device_id":"nobody","device_name":"nobody","updated_at":null,'
        b'"emotion_totals":{"happy":0.0,"sad":0.0,"angry":0.0,"neutral":0.0},'
        b'"history_totals":{"happy":0.0,"sad":0.0,"angry":0.0,"neutral":0.0},'
        b'"now":{"people":0,"seconds":{"happy":0.0,"sad":0.0,"angry":0.0,"neutral":0.0}},"current_people":[]}'
    )


def test_a_person_is_written_with_utc_times_and_fields_in_the_agreed_order() -> None:
    person = summary_of(("1", 145.2, 23.1, 5.3, 0.0, "sad", None, NOON)).current_people[0]

    assert msgspec.json.encode(person) == (
        b'{"person_id":"1","current_emotion":"happy","time_happy":145.2,"time_sad":23.1,"time_angry":5.3,'
        b'"time_neutral":0.0,"last_seen":"2025-11-14T12:00:00Z","active_at":null,"emotion_now":"sad"}'
    )


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_the_emotion_with_the_most_time_is_current(emotion: str) -> None:
    times = {name: 2.0 if name == emotion else 1.0 for name in EMOTIONS}

    assert current_emotion(**times) == emotion


@pytest.mark.parametrize("position", range(4))
def test_the_first_emotion_of_a_tie_is_current(position: int) -> None:
    times = {name: 0.0 if index < position else 1.0 for index, name in enumerate(EMOTIONS)}

    assert current_emotion(**times) == EMOTIONS[position]


def test_a_person_without_any_time_is_neutral() -> None:
    assert current_emotion(0.0, 0.0, 0.0, 0.0) == "neutral"


def test_the_person_seen_last_stands_first() -> None:
    later = NOON + timedelta(microseconds=1)

    assert ids(summary_of(row("a"), row("b", last_seen=later))) == ["b", "a"]


def test_people_seen_at_the_same_time_stand_in_code_point_order() -> None:
    summary = summary_of(*(row(person_id) for person_id in ["é", "b", "a", "10", "B", "9", "_"]))

    assert ids(summary) == ["10", "9", "B", "_", "a", "b", "é"]


@given(rows)
def test_every_person_is_listed_once(people: list[PersonRow]) -> None:
    assert sorted(ids(summary_of(*people))) == sorted(person[0] for person in people)


@given(rows.flatmap(lambda people: st.tuples(st.just(people), st.permutations(people))))
def test_the_order_of_the_rows_does_not_matter(both: tuple[list[PersonRow], list[PersonRow]]) -> None:
    people, shuffled = both

    assert summary_of(*people).current_people == summary_of(*shuffled).current_people


@given(rows)
def test_people_are_ordered_by_time_and_then_by_id(people: list[PersonRow]) -> None:
    listed = summary_of(*people).current_people

    assert all(
        one.last_seen > other.last_seen or (one.last_seen == other.last_seen and one.person_id < other.person_id)
        for one, other in pairwise(listed)
    )


@given(rows)
def test_totals_are_finite_and_no_smaller_than_any_person(people: list[PersonRow]) -> None:
    summary = summary_of(*people)

    assert math.isfinite(summary.emotion_totals.happy)
    assert all(summary.emotion_totals.happy >= person.time_happy for person in summary.current_people)


@given(seconds, seconds, seconds, seconds)
def test_no_emotion_has_more_time_than_the_current_one(happy: float, sad: float, angry: float, neutral: float) -> None:
    times = dict(zip(EMOTIONS, (happy, sad, angry, neutral), strict=True))

    assert times[current_emotion(**times)] == max(times.values())


@given(rows, st.integers(1, 7))
def test_it_is_the_same_json_however_many_people_are_read_at_once(people: list[PersonRow], at_once: int) -> None:
    assert json_of(*people, at_once=at_once) == json_of(*people)


@given(rows)
def test_the_totals_alone_are_the_summary_without_its_people(people: list[PersonRow]) -> None:
    whole = msgspec.json.decode(json_of(*people))
    alone = msgspec.json.decode(b"".join(encode_summary(HALL, [people], pause=no_pause, totals_only=True)))

    del whole["current_people"]
    assert alone == whole


def test_very_many_people_come_in_pieces() -> None:
    people = [row(str(number), happy=0.1) for number in range(2_000)]
    pieces = list(encode_summary(HALL, [people[:1_000], people[1_000:]], pause=no_pause))

    summary = msgspec.json.decode(b"".join(pieces), type=Summary)
    assert len(pieces) > 4
    assert all(pieces)
    assert ids(summary) == sorted(str(number) for number in range(2_000))
    assert summary.emotion_totals == EmotionTotals(200.0, 0.0, 0.0, 0.0)


class TestWhoIsListed:
    # Of those with an even number the seconds grew when they were seen last, of the others never.
    PEOPLE = [  # noqa: RUF012
        row(str(number), active_at=None if number % 2 else seen, last_seen=seen)
        for number in range(7)
        for seen in [NOON - timedelta(seconds=number)]
    ]

    def ids(self, page: PeoplePage, *, piece: int) -> str:
        """The ids of those who are listed, if people come in pieces of that length."""
        pieces = [self.PEOPLE[start : start + piece] for start in range(0, len(self.PEOPLE), piece)]
        return "".join(person[0] for rows in listed(pieces, page, pause=no_pause) for person in rows)

    @pytest.mark.parametrize("piece", [1, 2, 3, 7, 100])
    @pytest.mark.parametrize(
        ("page", "ids"),
        [
            (PeoplePage(), "0123456"),
            (PeoplePage(limit=1), "0"),
            (PeoplePage(limit=4), "0123"),
            (PeoplePage(limit=100), "0123456"),
            (PeoplePage(after="0"), "123456"),
            (PeoplePage(after="3"), "456"),
            (PeoplePage(after="6"), ""),
            (PeoplePage(after="2", limit=2), "34"),
            (PeoplePage(since=NOON - timedelta(seconds=3)), "0123"),
            (PeoplePage(since=NOON + timedelta(seconds=1)), ""),
            (PeoplePage(active_since=NOON - timedelta(seconds=3)), "02"),
            (PeoplePage(active_since=NOON - timedelta(seconds=4), after="0", limit=1), "2"),
            (PeoplePage(since=NOON - timedelta(seconds=3), after="1", limit=1), "2"),
            (PeoplePage(since=NOON - timedelta(seconds=3), after="3", limit=1), ""),
        ],
    )
    def test_they_are_those_of_the_page_in_their_order(self, page: PeoplePage, ids: str, piece: int) -> None:
        assert self.ids(page, piece=piece) == ids

    @pytest.mark.parametrize("piece", [1, 3, 100])
    @pytest.mark.parametrize("page", [PeoplePage(after="7"), PeoplePage(after="4", since=NOON - timedelta(seconds=3))])
    def test_an_unlisted_person_to_continue_after_is_a_bad_request(self, page: PeoplePage, piece: int) -> None:
        with pytest.raises(BadRequest, match="begin again without it"):
            self.ids(page, piece=piece)

    def test_the_summary_has_the_totals_of_all(self) -> None:
        people = [row(f"{number:04}", happy=1.0) for number in range(2 * PEOPLE_A_PIECE)]

        text = b"".join(
            encode_summary(HALL, [people], pause=no_pause, page=PeoplePage(after=f"{PEOPLE_A_PIECE:04}", limit=2))
        )

        summary = msgspec.json.decode(text, type=Summary)
        assert ids(summary) == [f"{PEOPLE_A_PIECE + 1:04}", f"{PEOPLE_A_PIECE + 2:04}"]
        assert summary.emotion_totals.happy == 2 * PEOPLE_A_PIECE


class TestEmotions:
    """Fields that msgspec needs spelled out are those of shared.batch.EMOTIONS, in its order."""

    def test_the_summarys_fields_are_those_of_all_emotions(self) -> None:
        assert get_args(Emotion) == EMOTIONS
        assert EmotionTotals.__struct_fields__ == EMOTIONS
        assert Person.__struct_fields__ == (
            "person_id",
            "current_emotion",
            *(f"time_{emotion}" for emotion in EMOTIONS),
            "last_seen",
            "active_at",
            "emotion_now",
        )
        assert tuple(inspect.signature(current_emotion).parameters) == EMOTIONS
        assert len(get_args(PersonRow)) == len(EMOTIONS) + 4
