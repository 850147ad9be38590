"""The span of a history, its steps, and its form."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
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
    Read,
    Span,
    add,
    encode_csv,
    encode_history,
    file_name,
    reads,
    span_of,
)
from emotion_api.summary import DeviceInfo
from shared.batch import EMOTIONS
from tests.zones import ZONES

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOON = datetime(2025, 11, 14, 12, tzinfo=UTC)
HALL = DeviceInfo("jetson_1", "Hall", NOON)
KATHMANDU = ZoneInfo("Asia/Kathmandu")

times = st.datetimes(timezones=st.just(UTC))


def span_in_utc(start: int, end: int, step: int) -> Span:
    return Span(range(start, end, step), end, step)


def times_of(
    start: datetime | None, end: datetime | None, *, step: int | None = None, zone: ZoneInfo | None = None
) -> tuple[datetime, datetime]:
    """Start and end of the span, where it is asked for at noon."""
    span = span_of(HistoryRequest("jetson_1", start, end, step, zone), NOON)
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
            (NOON - timedelta(days=7, minutes=1), NOON, 60, "more than 10,080 points"),
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

        assert len(span.starts) == MOST_POINTS

    @pytest.mark.parametrize("zone", [None, KATHMANDU, ZoneInfo("America/New_York")])
    def test_all_of_time_can_be_asked_for(self, zone: ZoneInfo | None) -> None:
        end = datetime(9000, 1, 1, tzinfo=UTC)

        assert len(span_of(HistoryRequest("jetson_1", EPOCH, end, None, zone), NOON).starts) <= POINTS_CHOSEN

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
        assert len(span.starts) <= (POINTS_CHOSEN if step is None else MOST_POINTS)
        ends = [span._replace(starts=span.starts[:1]), span._replace(starts=span.starts[-1:])]
        assert all(b"".join(encode_history(HALL, end, {})) for end in ends)  # within the calendar

    @pytest.mark.parametrize("step", [90_000, 86_460, 10_001 * 86_400, 10**15 - 40])
    def test_a_long_step_of_a_zone_is_whole_days(self, step: int) -> None:
        with pytest.raises(BadRequest, match="shorter than a day or whole days"):
            times_of(None, None, step=step, zone=KATHMANDU)

    @pytest.mark.parametrize(("length", "step"), [(timedelta(days=7, minutes=1), 60), (timedelta(days=10_081), 86_400)])
    def test_a_zone_has_no_more_points(self, length: timedelta, step: int) -> None:
        with pytest.raises(BadRequest, match="more than 10,080 points"):
            times_of(NOON - length, NOON, step=step, zone=KATHMANDU)

    @given(
        st.integers(0, 2_500_000).map(lambda days: EPOCH + timedelta(days=days)),
        st.timedeltas(timedelta(seconds=1), timedelta(days=3_650)),
        st.sampled_from(ZONES),
    )
    @settings(max_examples=30)
    def test_the_steps_of_a_zone_that_are_chosen_are_few_enough(
        self, start: datetime, length: timedelta, zone: str
    ) -> None:
        span = span_of(HistoryRequest("jetson_1", start, start + length, None, ZoneInfo(zone)), NOON)

        assert 1 <= len(span.starts) <= POINTS_CHOSEN
        assert span.start <= start.timestamp() < (start + length).timestamp() <= span.end


class TestReads:
    def test_whole_hours_of_utc_are_read_at_once(self) -> None:
        assert reads(span_in_utc(0, 86_400, 7_200)) == [Read(0, 86_400, 3_600, 7_200)]

    @pytest.mark.parametrize("step", [60, 1_800, 5_400])
    def test_other_steps_are_read_from_minutes(self, step: int) -> None:
        assert reads(span_in_utc(0, 86_400, step)) == [Read(0, 86_400, 60, step)]

    def test_days_of_a_zone_of_whole_hours_are_read_from_hours(self) -> None:
        month = HistoryRequest("jetson_1", NOON - timedelta(days=28), NOON, 86_400, ZoneInfo("Europe/Berlin"))

        found = reads(span_of(month, NOON))

        assert [(read.row_seconds, read.sum_seconds) for read in found] == [
            (3_600, 86_400),
            (3_600, 90_000),  # the clock is set back
            (3_600, 86_400),
        ]

    def test_days_in_kathmandu_are_read_from_hours_and_the_minutes_around_midnight(self) -> None:
        month = HistoryRequest("jetson_1", NOON - timedelta(days=28), NOON, 86_400, KATHMANDU)
        span = span_of(month, NOON)

        found = reads(span)

        assert [read.start for read in found[1:]] == [read.end for read in found[:-1]]
        assert (found[0].start, found[-1].end) == (span.start, span.end)
        assert sum(read.most_rows for read in found) == 29 * (23 + 60)


class TestTheNameOfTheFile:
    @pytest.mark.parametrize(
        ("device_id", "zone", "name"),
        [
            ("jetson_1", None, "jetson_1_2025-11-13_2025-11-14.csv"),
            ("jetson_1", ZoneInfo("Pacific/Kiritimati"), "jetson_1_2025-11-14_2025-11-15.csv"),
            ("a:b", None, "a_b_2025-11-13_2025-11-14.csv"),
            ("..", None, "_._2025-11-13_2025-11-14.csv"),
            ("-rf", None, "_rf_2025-11-13_2025-11-14.csv"),
        ],
    )
    def test_it_has_the_device_and_the_days(self, device_id: str, zone: ZoneInfo | None, name: str) -> None:
        span = span_of(HistoryRequest(device_id, None, NOON, 3_600, zone), NOON)

        assert file_name(device_id, span) == name


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
    def test_those_of_one_step_are_added(self) -> None:
        found: dict[int, Bucket] = {}
        span = Span([60, 240], 480, 300)

        add(found, span, [Bucket(60, (1.0, 2.0, 3.0, 4.0), 2), Bucket(240, (1.0, 0.0, 0.0, 0.0), 1)])
        add(found, span, [Bucket(180, (0.5, 0.5, 0.5, 0.5), 1)])

        assert found == {60: Bucket(180, (1.5, 2.5, 3.5, 4.5), 2), 240: Bucket(240, (1.0, 0.0, 0.0, 0.0), 1)}

    @pytest.mark.parametrize(("one", "other", "both"), [(None, None, None), (None, 2.0, 2.0), (1.5, 2.0, 3.5)])
    def test_what_no_row_tells_adds_nothing_to_the_covered_time(
        self, one: float | None, other: float | None, both: float | None
    ) -> None:
        found: dict[int, Bucket] = {}
        for covered in (one, other):
            add(found, span_in_utc(0, 60, 60), [Bucket(0, (0.0,) * 4, 0, covered)])

        assert found[0].covered == both


class TestTheAnswer:
    SPAN = span_in_utc(0, 180, 60)
    BUCKETS = {60: Bucket(60, (0.1 + 0.2, 0.0, 1e308 * 10, 0.0004), 2)}  # noqa: RUF012

    def test_every_step_is_there_with_zeros_where_nothing_was(self) -> None:
        history = json.loads(b"".join(encode_history(HALL, self.SPAN, self.BUCKETS)))

        nothing = {"happy": 0.0, "sad": 0.0, "angry": 0.0, "neutral": 0.0, "most_people": 0, "covered": None}
        assert history == {
            "device_id": "jetson_1",
            "device_name": "Hall",
            "start": "1970-01-01T00:00:00Z",
            "end": "1970-01-01T00:03:00Z",
            "step": 60,
            "time_zone": "UTC",
            "points": [
                {"start": "1970-01-01T00:00:00Z", **nothing},
                {
                    "start": "1970-01-01T00:01:00Z",
                    "happy": 0.3,
                    "sad": 0.0,
                    "angry": 1.7976931348623157e308,
                    "neutral": 0.0,
                    "most_people": 2,
                    "covered": None,
                },
                {"start": "1970-01-01T00:02:00Z", **nothing},
            ],
        }

    def test_a_point_has_every_emotion(self) -> None:
        assert Point.__struct_fields__ == ("start", *EMOTIONS, "most_people", "covered")

    def test_as_csv_it_has_the_same_points(self) -> None:
        many = span_in_utc(0, 60 * (2 * POINTS_A_PIECE + 1), 60)
        points = json.loads(b"".join(encode_history(HALL, many, self.BUCKETS)))["points"]

        text = b"".join(encode_csv(HALL, many, self.BUCKETS)).decode()

        assert text.startswith(
            "start,happy,sad,angry,neutral,most_people,covered\r\n1970-01-01T00:00:00Z,0.0,0.0,0.0,0.0,0,\r\n"
        )
        assert [list(row.values()) for row in csv.DictReader(io.StringIO(text))] == [
            ["" if value is None else str(value) for value in point.values()] for point in points
        ]

    def test_as_csv_of_a_zone_the_local_time_comes_first(self) -> None:
        change = datetime(2025, 10, 26, 0, tzinfo=UTC)
        hours = HistoryRequest("jetson_1", change, change + timedelta(hours=3), 3_600, ZoneInfo("Europe/Berlin"))

        lines = b"".join(encode_csv(HALL, span_of(hours, NOON), {})).decode().split("\r\n")

        assert lines == [
            "local_time,start,happy,sad,angry,neutral,most_people,covered",
            "2025-10-26 02:00,2025-10-26T00:00:00Z,0.0,0.0,0.0,0.0,0,",
            "2025-10-26 02:00,2025-10-26T01:00:00Z,0.0,0.0,0.0,0.0,0,",
            "2025-10-26 03:00,2025-10-26T02:00:00Z,0.0,0.0,0.0,0.0,0,",
            "",
        ]

    @pytest.mark.parametrize("zone", [None, KATHMANDU])
    def test_no_cell_of_the_csv_is_a_formula(self, zone: ZoneInfo | None) -> None:
        """Spreadsheets run cells that begin so. The name of a device, which may, is in none."""
        request = HistoryRequest("=1+1", None, NOON, 3_600, zone)
        text = b"".join(encode_csv(DeviceInfo("=1+1", "=1+1", None), span_of(request, NOON), {})).decode()

        cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
        assert len(cells) > 100
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]

    def test_a_step_without_rows_was_covered_for_no_time_if_that_is_known(self) -> None:
        info = DeviceInfo("jetson_1", "Hall", None, covered_since=datetime(1970, 1, 1, 0, 1, 30, tzinfo=UTC))
        buckets = {0: Bucket(0, (0.0,) * 4, 1, 12.5), 60: Bucket(60, (0.0,) * 4, 1, None)}

        points = json.loads(b"".join(encode_history(info, span_in_utc(0, 240, 60), buckets)))["points"]

        assert [point["covered"] for point in points] == [12.5, None, 0.0, 0.0]
