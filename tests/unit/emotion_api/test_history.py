"""The span of a history, its steps, and its form."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_api.bad_request import BadRequest
from emotion_api.history import (
    DAY,
    MOST_POINTS,
    POINTS_A_PIECE,
    POINTS_CHOSEN,
    STEPS,
    Bucket,
    HistoryRequest,
    Point,
    Span,
    add,
    encode_csv,
    encode_history,
    span_of,
)
from emotion_api.summary import DeviceInfo
from shared.batch import EMOTIONS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOON = datetime(2025, 11, 14, 12, tzinfo=UTC)
HALL = DeviceInfo("jetson_1", "Hall", NOON)

times = st.datetimes(timezones=st.just(UTC))


def times_of(start: datetime | None, end: datetime | None, *, step: int | None = None) -> tuple[datetime, datetime]:
    """Start and end of the span, where it is asked for at noon."""
    span = span_of(HistoryRequest("jetson_1", start, end, step), NOON)
    return EPOCH + timedelta(seconds=span.start), EPOCH + timedelta(seconds=span.end)


def step_of(length: timedelta) -> int:
    return span_of(HistoryRequest("jetson_1", NOON - length, NOON), NOON).step


class TestTheSpan:
    def test_it_is_the_day_before_now(self) -> None:
        assert times_of(None, None) == (NOON - timedelta(days=1), NOON)

    def test_it_is_the_day_before_the_end(self) -> None:
        assert times_of(None, NOON - timedelta(days=7)) == (NOON - timedelta(days=8), NOON - timedelta(days=7))

    def test_it_ends_now(self) -> None:
        assert times_of(NOON - timedelta(hours=2), None) == (NOON - timedelta(hours=2), NOON)

    def test_its_start_is_rounded_down_and_its_end_up(self) -> None:
        start, end = NOON - timedelta(seconds=1), NOON + timedelta(microseconds=1)

        assert times_of(start, end, step=600) == (NOON - timedelta(minutes=10), NOON + timedelta(minutes=10))

    def test_a_moment_is_a_whole_step(self) -> None:
        assert times_of(NOON, NOON + timedelta(microseconds=1), step=60) == (NOON, NOON + timedelta(minutes=1))

    def test_before_1970_there_is_no_day_to_begin_with(self) -> None:
        assert times_of(None, EPOCH + timedelta(hours=1), step=3600) == (EPOCH, EPOCH + timedelta(hours=1))

    @pytest.mark.parametrize(
        ("start", "end", "step", "reason"),
        [
            (NOON, NOON, None, "start has to be before end"),
            (NOON, NOON - timedelta(seconds=1), None, "start has to be before end"),
            (NOON + timedelta(days=1), None, None, "start has to be before end"),
            (EPOCH - timedelta(microseconds=1), NOON, None, "start has to be 1970"),
            (None, EPOCH, None, "end has to lie"),
            (None, datetime.min.replace(tzinfo=UTC), None, "end has to lie"),
            (None, datetime.max.replace(tzinfo=UTC), None, "end has to lie"),
            (NOON - timedelta(days=7, minutes=1), NOON, 60, "10,081 points, more than 10,080"),
            (None, datetime(9000, 1, 1, 0, 0, 1, tzinfo=UTC), None, "end has to lie"),
            (None, NOON, 10**15 - 40, "step is too long"),
        ],
    )
    def test_another_is_refused(
        self, start: datetime | None, end: datetime | None, step: int | None, reason: str
    ) -> None:
        with pytest.raises(BadRequest, match=reason):
            times_of(start, end, step=step)

    def test_a_week_of_minutes_is_not_too_many(self) -> None:
        span = span_of(HistoryRequest("jetson_1", NOON - timedelta(days=7), NOON, 60), NOON)

        assert span.points == MOST_POINTS

    def test_all_of_time_can_be_asked_for(self) -> None:
        assert (
            span_of(HistoryRequest("jetson_1", EPOCH, datetime(9000, 1, 1, tzinfo=UTC)), NOON).points <= POINTS_CHOSEN
        )

    @given(times | st.none(), times | st.none(), st.integers(1, 10**13).map(lambda minutes: minutes * 60) | st.none())
    def test_whatever_is_asked_for_it_is_one_or_refused(
        self, start: datetime | None, end: datetime | None, step: int | None
    ) -> None:
        try:
            span = span_of(HistoryRequest("jetson_1", start, end, step), NOON)
        except BadRequest:
            return

        assert 0 <= span.start < span.end
        assert span.start % span.step == span.end % span.step == 0
        assert span.points <= (POINTS_CHOSEN if step is None else MOST_POINTS)
        ends = [Span(span.start, span.start + span.step, span.step), Span(span.end - span.step, span.end, span.step)]
        assert all(b"".join(encode_history(HALL, end, {})) for end in ends)  # within the calendar


class TestTheStepThatIsChosen:
    @pytest.mark.parametrize(
        ("length", "step"),
        [
            (timedelta(seconds=1), 60),
            (timedelta(minutes=500), 60),
            (timedelta(minutes=501), 120),
            (timedelta(days=1), 300),
            (timedelta(days=7), 1_800),
            (timedelta(days=30), 7_200),
            (timedelta(days=365), 86_400),
            (timedelta(days=500), 2 * 86_400),
            (timedelta(days=3_650), 8 * 86_400),
        ],
    )
    def test_it_is_the_shortest_with_few_enough_points(self, length: timedelta, step: int) -> None:
        assert step_of(length) == step

    @given(st.datetimes(EPOCH.replace(tzinfo=None), timezones=st.just(UTC)), st.timedeltas(timedelta(seconds=1)))
    def test_no_shorter_one_would_do(self, start: datetime, length: timedelta) -> None:
        try:
            span = span_of(HistoryRequest("jetson_1", start, start + length), NOON)
        except (BadRequest, OverflowError):
            return

        shorter = max((step for step in STEPS if step < span.step), default=None)
        if span.step > DAY:
            shorter = span.step - DAY
        if shorter is not None:
            first, last = start.timestamp() // shorter, -(-(start + length).timestamp() // shorter)
            assert last - first > POINTS_CHOSEN


class TestBuckets:
    def test_those_of_one_number_are_added(self) -> None:
        found: dict[int, Bucket] = {}

        add(found, [Bucket(1, (1.0, 2.0, 3.0, 4.0), 2), Bucket(2, (1.0, 0.0, 0.0, 0.0), 1)])
        add(found, [Bucket(1, (0.5, 0.5, 0.5, 0.5), 1)])

        assert found == {1: Bucket(1, (1.5, 2.5, 3.5, 4.5), 2), 2: Bucket(2, (1.0, 0.0, 0.0, 0.0), 1)}


class TestTheAnswer:
    SPAN = Span(0, 180, 60)
    BUCKETS = {1: Bucket(1, (0.1 + 0.2, 0.0, 1e308 * 10, 0.0004), 2)}  # noqa: RUF012

    def test_every_step_is_there_with_zeros_where_nothing_was(self) -> None:
        history = json.loads(b"".join(encode_history(HALL, self.SPAN, self.BUCKETS)))

        nothing = {"happy": 0.0, "sad": 0.0, "angry": 0.0, "neutral": 0.0, "most_people": 0}
        assert history == {
            "device_id": "jetson_1",
            "device_name": "Hall",
            "start": "1970-01-01T00:00:00Z",
            "end": "1970-01-01T00:03:00Z",
            "step": 60,
            "points": [
                {"start": "1970-01-01T00:00:00Z", **nothing},
                {
                    "start": "1970-01-01T00:01:00Z",
                    "happy": 0.3,
                    "sad": 0.0,
                    "angry": 1.7976931348623157e308,
                    "neutral": 0.0,
                    "most_people": 2,
                },
                {"start": "1970-01-01T00:02:00Z", **nothing},
            ],
        }

    def test_a_point_has_every_emotion(self) -> None:
        assert Point.__struct_fields__ == ("start", *EMOTIONS, "most_people")

    def test_as_csv_it_has_the_same_points(self) -> None:
        many = Span(0, 60 * (2 * POINTS_A_PIECE + 1), 60)
        points = json.loads(b"".join(encode_history(HALL, many, self.BUCKETS)))["points"]

        text = b"".join(encode_csv(many, self.BUCKETS)).decode()

        assert text.startswith(
            "start,happy,sad,angry,neutral,most_people\r\n1970-01-01T00:00:00Z,0.0,0.0,0.0,0.0,0\r\n"
        )
        assert [list(row.values()) for row in csv.DictReader(io.StringIO(text))] == [
            [str(value) for value in point.values()] for point in points
        ]
