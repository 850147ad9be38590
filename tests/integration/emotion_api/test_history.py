"""The history as a client gets it, from a real database."""

import gzip
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Connection, Engine, insert

from emotion_api.history import Bucket, Read
from emotion_api.reading import queries
from emotion_api.reading.source import Busy, Source
from shared.batch import EMOTIONS
from shared.schema import device, device_state
from shared.settings import Settings
from tests.databases import add_minutes, make_tables, raise_revision_of
from tests.web import HISTORY, SUMMARY, served
from tests.zones import CHANGES, step_on_the_wall

NOON = datetime(2025, 11, 14, 12, 0, tzinfo=UTC)
HOUR = f"{HISTORY}?start=2025-11-14T12:00:00Z&end=2025-11-14T13:00:00Z"

CSV = "text/csv; charset=utf-8"
JSON = "application/json"


@pytest.fixture
def client(database_url: str) -> Iterator[FlaskClient]:
    with served(Settings(database_url=database_url), now=lambda: NOON + timedelta(hours=1)) as client:
        yield client


@pytest.fixture
def sqlite_client(sqlite_url: str) -> Iterator[FlaskClient]:
    make_tables(sqlite_url)
    with served(Settings(database_url=sqlite_url)) as client:
        yield client


def store_minutes(writer: Engine, *minutes: float, device_id: str = "jetson_1", **values: Any) -> None:
    """Minutes after noon."""
    times = {f"time_{emotion}": 0.0 for emotion in EMOTIONS}
    rows = [
        {"device_id": device_id, "minute": NOON + timedelta(minutes=minute), "most_people": 1, **times, **values}
        for minute in minutes
    ]
    with writer.begin() as connection:
        add_minutes(connection, rows)


def points(client: FlaskClient, path: str) -> list[dict[str, Any]]:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    found: list[dict[str, Any]] = answer.json["points"]
    return found


def test_the_history_is_the_agreed_json(writer: Engine, client: FlaskClient) -> None:
    with writer.begin() as connection:
        connection.execute(insert(device).values(device_id="jetson_1", device_name="Hall"))
    store_minutes(writer, 30, time_happy=12.0, time_neutral=3.5, most_people=2)

    answer = client.get(f"{HISTORY}?start=2025-11-14T12:30:00Z&end=2025-11-14T12:35:00Z&step=300")

    assert answer.status_code == 200
    assert answer.content_type == JSON
    assert answer.text == (
        '{"device_id":"jetson_1","device_name":"Hall","start":"2025-11-14T12:30:00Z","end":"2025-11-14T12:35:00Z",'
        '"step":300,"time_zone":"UTC","points":[{"start":"2025-11-14T12:30:00Z","happy":12.0,"sad":0.0,"angry":0.0,"neutral":3.5,'
        '"most_people":2,"covered":null}]}'
    )


def test_minutes_of_a_step_are_added_and_no_others(writer: Engine, client: FlaskClient) -> None:
    store_minutes(writer, -1, 0, 1, 29, 30, 59, 60, time_happy=1.0, time_sad=0.1)
    store_minutes(writer, 2, time_happy=0.5, most_people=7)
    store_minutes(writer, 3, device_id="jetson_2", time_happy=100.0, most_people=100)

    first, second = points(client, f"{HOUR}&step=1800")

    assert first == {
        "start": "2025-11-14T12:00:00Z",
        "happy": 3.5,
        "sad": 0.3,
        "angry": 0.0,
        "neutral": 0.0,
        "most_people": 7,
        "covered": None,
    }
    assert (second["happy"], second["most_people"]) == (2.0, 1)


@pytest.mark.parametrize("step", [600, 3600])
def test_the_covered_time_is_null_if_it_is_not_known(step: int, writer: Engine, client: FlaskClient) -> None:
    """The rows at noon are of an earlier version. The device was heard from 14:10 on, and was silent after 14:30."""
    store_minutes(writer, 0, 1)
    store_minutes(writer, 130, 131, 132, 149, covered=20.25)
    with writer.begin() as connection:
        connection.execute(insert(device_state).values(device_id="jetson_1", covered_since=NOON + timedelta(hours=2.2)))

    found = points(client, f"{HISTORY}?start=2025-11-14T12:00:00Z&end=2025-11-14T16:00:00Z&step={step}")

    covered = {point["start"][11:16]: point["covered"] for point in found}
    assert [covered["12:00"], covered["13:00"]] == [None, None]
    if step == 600:
        assert [covered[time] for time in ("14:00", "14:10", "14:20", "14:30", "15:50")] == [
            None,
            60.75,
            20.25,
            0.0,
            0.0,
        ]
    else:
        assert [covered["14:00"], covered["15:00"]] == [81.0, 0.0]


def test_without_a_start_and_an_end_it_is_the_day_before_now(writer: Engine, client: FlaskClient) -> None:
    store_minutes(writer, 59, time_happy=1.0)

    answer = client.get(HISTORY).json

    assert answer is not None
    assert (answer["start"], answer["end"], answer["step"]) == ("2025-11-13T13:00:00Z", "2025-11-14T13:00:00Z", 300)
    assert [point["happy"] for point in answer["points"]] == [0.0] * 287 + [1.0]


@pytest.mark.parametrize("at_once", [1, 2, 7, 100])
def test_however_many_minutes_are_added_at_once_the_sums_are_the_same(
    at_once: int, writer: Engine, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "ROWS_AT_ONCE", at_once)
    store_minutes(writer, *range(28), 300, time_angry=1.0)

    assert [point["angry"] for point in points(client, f"{HOUR}&step=600")] == [10.0, 10.0, 8.0, 0.0, 0.0, 0.0]
    day = points(client, f"{HISTORY}?start=2025-11-14&end=2025-11-15&step=3600")
    assert [point["angry"] for point in day] == [0.0] * 12 + [28.0, 0.0, 0.0, 0.0, 0.0, 1.0] + [0.0] * 6


@pytest.mark.parametrize("step", [3600, 7200, 86_400])
def test_steps_of_whole_hours_are_the_sums_of_their_minutes(step: int, writer: Engine, client: FlaskClient) -> None:
    day = f"{HISTORY}?start=2025-11-14&end=2025-11-15"
    store_minutes(writer, *range(-30, 200, 7), time_happy=1.25, most_people=2)
    store_minutes(writer, 62, 719, 720, time_sad=3.0, most_people=5)
    store_minutes(writer, 62, device_id="jetson_2", time_happy=100.0, most_people=100)

    fine, coarse = points(client, f"{day}&step=1800"), points(client, f"{day}&step={step}")

    a_point = step // 1800
    for number, point in enumerate(coarse):
        parts = fine[number * a_point : (number + 1) * a_point]
        assert point["start"] == parts[0]["start"]
        assert point["most_people"] == max(part["most_people"] for part in parts)
        for emotion in EMOTIONS:
            assert point[emotion] == pytest.approx(sum(part[emotion] for part in parts))


@pytest.mark.parametrize("step", ["1800", "3600", "7200", "21600", "day", "week"])
@pytest.mark.parametrize(
    ("zone", "change"),
    [
        (zone, change)
        for zone in ("America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe")
        for change in CHANGES[zone]
    ],
)
def test_the_steps_of_a_zone_equal_a_model_that_asks_the_calendar_about_each_minute(
    zone: str, change: str, step: str, writer: Engine, client: FlaskClient
) -> None:
    """Around a change of the clock no hour is merged with another, split, or moved to another day."""
    begin, days = datetime.fromisoformat(change) - timedelta(days=2), 4
    minutes = [begin + timedelta(minutes=minute) for minute in range(0, days * 1440, 17)]
    store_minutes(writer, *((minute - NOON) / timedelta(minutes=1) for minute in minutes), time_happy=1.0)

    address = f"{HISTORY}?start={begin:%Y-%m-%dT%H:%MZ}&end={begin + timedelta(days=days):%Y-%m-%dT%H:%MZ}"
    history = client.get(f"{address}&step={step}&tz={zone}").json

    assert history is not None
    key = step_on_the_wall(ZoneInfo(zone), history["step"])
    model = Counter(key(int(minute.timestamp())) for minute in minutes)
    starts = [int(datetime.fromisoformat(point["start"]).timestamp()) for point in history["points"]]
    assert history["time_zone"] == zone
    assert len({key(start) for start in starts}) == len(starts)
    assert {key(start): point["happy"] for start, point in zip(starts, history["points"], strict=True)} == {
        **dict.fromkeys(map(key, starts), 0),
        **model,
    }


def test_days_and_weeks_are_those_of_the_site(sqlite_url: str) -> None:
    make_tables(sqlite_url)
    with served(Settings(database_url=sqlite_url, time_zone="Asia/Kathmandu"), now=lambda: NOON) as client:
        days = client.get(f"{HISTORY}?start=2025-11-13&end=2025-11-15&step=day").json
        weeks = client.get(f"{HISTORY}?step=week").json
        hours = client.get(f"{HISTORY}?step=3600").json

    assert days is not None
    assert weeks is not None
    assert hours is not None
    assert (days["step"], days["time_zone"]) == (86_400, "Asia/Kathmandu")
    assert [point["start"] for point in days["points"]] == ["2025-11-12T18:15:00Z", "2025-11-13T18:15:00Z"]
    assert days["end"] == "2025-11-14T18:15:00Z"
    assert [point["start"] for point in weeks["points"]] == ["2025-11-09T18:15:00Z"]  # Monday in Kathmandu
    assert (hours["start"], hours["time_zone"]) == ("2025-11-13T12:00:00Z", "UTC")


def test_few_rows_are_read_for_weeks_of_days_in_kathmandu(
    writer: Engine, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Read] = []
    buckets = queries.buckets

    def spied(connection: Connection, device_id: str, part: Read) -> Iterator[list[Bucket]]:
        read.append(part)
        return buckets(connection, device_id, part)

    monkeypatch.setattr(queries, "buckets", spied)

    points(client, f"{HISTORY}?start=2025-10-17&end=2025-11-14&tz=Asia/Kathmandu&step=day")

    assert sum(each.most_rows for each in read) == 28 * (23 + 60)


def test_the_largest_seconds_add_up_to_a_finite_sum(writer: Engine, client: FlaskClient) -> None:
    store_minutes(writer, 0, time_sad=1.7e308)
    store_minutes(writer, 1, time_sad=1e306)

    point, _ = points(client, f"{HOUR}&step=1800")

    assert 1e300 < point["sad"] < float("inf")


def test_very_many_years_are_answered(writer: Engine, client: FlaskClient) -> None:
    store_minutes(writer, 0, time_happy=1.0)

    found = points(client, f"{HISTORY}?start=1970-01-01&end=9000-01-01")

    assert len(found) <= 500
    assert sum(point["happy"] for point in found) == 1.0


def test_a_device_nobody_has_heard_of_has_zeros(writer: Engine, client: FlaskClient) -> None:
    answer = client.get(f"{HOUR}&device_id=unknown&step=3600").json

    assert answer is not None
    assert (answer["device_name"], [point["happy"] for point in answer["points"]]) == ("unknown", [0.0])


def test_a_minute_that_is_committed_shows_in_the_next_answer(writer: Engine, client: FlaskClient) -> None:
    store_minutes(writer, 0, time_happy=1.0)
    points(client, HOUR)
    store_minutes(writer, 1, time_happy=2.0)
    raise_revision_of(writer, "jetson_1")

    assert sum(point["happy"] for point in points(client, HOUR)) == 3.0


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("start=yesterday", "start is not ISO 8601"),
        ("start=2025-11-14&end=2025-11-14", "start has to be before end"),
        ("step=90", "a multiple of 60"),
        ("start=2025-01-01&end=2025-11-14&step=60", "ask for a longer step or a shorter time"),
        ("start=1969-12-31", "1970-01-01T00:00:00Z or later"),
        ("step=60&step=60", "more than once"),
        ("device_id=a/b", "device_id has to be"),
        ("tz=Berlin", "tz is 'Berlin', but it is an IANA time zone, like Europe/Berlin."),
        ("tz=Europe/Berlin&step=90000", "shorter than a day or whole days"),
        ("step=day&start=1980-01-01", "more than 10,080 points"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_a_sentence(
    query: str, sentence: str, sqlite_client: FlaskClient
) -> None:
    answer = sqlite_client.get(f"{HISTORY}?{query}")

    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"
    assert sentence in answer.json["detail"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("application/json", JSON),
        ("text/csv", CSV),
        ("TEXT/CSV", CSV),
        ("text/*", CSV),
        ("text/csv, application/json", JSON),
        ("text/csv, */*", JSON),
        ("text/csv, */*;q=0.5", CSV),
        ("text/csv;q=0.5, application/json;q=0.4", CSV),
        ("text/csv;q=0.4, application/json;q=0.5", JSON),
        ("text/csv;q=0", JSON),
        ("text/csv;q=high", JSON),
        ("text/html, application/xml", JSON),
    ],
)
def test_who_prefers_csv_gets_it_and_everybody_else_json(
    accept: str | None, content_type: str, sqlite_client: FlaskClient
) -> None:
    answer = sqlite_client.get(HOUR, headers={} if accept is None else {"Accept": accept})

    assert (answer.status_code, answer.content_type) == (200, content_type)


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/csv"])
def test_a_client_that_sets_no_header_asks_for_csv_in_the_address(accept: str, sqlite_client: FlaskClient) -> None:
    as_csv = sqlite_client.get(f"{HOUR}&format=csv", headers={"Accept": accept})
    as_json = sqlite_client.get(f"{HOUR}&format=json", headers={"Accept": accept})

    assert (as_csv.content_type, as_json.content_type) == (CSV, JSON)
    assert as_csv.text.startswith("start,happy,sad,angry,neutral,most_people,covered\r\n")


@pytest.mark.parametrize("path", [f"{HISTORY}?Start=2025-11-14", f"{SUMMARY}?format=csv", "/api/devices?format=csv"])
def test_a_parameter_that_does_nothing_here_gets_400(path: str, sqlite_client: FlaskClient) -> None:
    assert sqlite_client.get(path).status_code == 400


def test_as_csv_there_is_a_line_a_point(writer: Engine, client: FlaskClient) -> None:
    store_minutes(writer, 30, time_happy=12.0, time_neutral=3.5, most_people=2, covered=29.5)

    answer = client.get(f"{HOUR}&step=1800", headers={"Accept": "text/csv"})

    assert answer.headers["Content-Disposition"] == 'attachment; filename="jetson_1_2025-11-14_2025-11-14.csv"'
    assert answer.text == (
        "start,happy,sad,angry,neutral,most_people,covered\r\n"
        "2025-11-14T12:00:00Z,0.0,0.0,0.0,0.0,0,\r\n"
        "2025-11-14T12:30:00Z,12.0,0.0,0.0,3.5,2,29.5\r\n"
    )


def test_as_csv_of_a_zone_there_is_the_local_time_too(writer: Engine, client: FlaskClient) -> None:
    store_minutes(writer, 30, time_happy=12.0, most_people=2)

    answer = client.get(f"{HISTORY}?tz=Asia/Kathmandu&start=2025-11-14T18:00&end=2025-11-14T19:00&step=1800&format=csv")

    assert answer.text == (
        "local_time,start,happy,sad,angry,neutral,most_people,covered\r\n"
        "2025-11-14 18:00,2025-11-14T12:15:00Z,12.0,0.0,0.0,0.0,2,\r\n"
        "2025-11-14 18:30,2025-11-14T12:45:00Z,0.0,0.0,0.0,0.0,0,\r\n"
    )


def test_json_is_no_file_to_store(sqlite_client: FlaskClient) -> None:
    assert "Content-Disposition" not in sqlite_client.get(HOUR).headers


@pytest.mark.parametrize("accept", [JSON, "text/csv"])
def test_caches_are_told_that_accept_counts_in_one_line(accept: str, sqlite_client: FlaskClient) -> None:
    first = sqlite_client.get(HOUR, headers={"Accept": accept})
    again = sqlite_client.get(HOUR, headers={"Accept": accept, "If-None-Match": first.headers["ETag"]})

    assert (first.status_code, again.status_code) == (200, 304)
    assert first.headers.getlist("Vary") == again.headers.getlist("Vary") == ["Accept, Origin, Accept-Encoding"]


def test_csv_is_another_answer_than_json_also_where_it_was_kept(sqlite_client: FlaskClient) -> None:
    etags = {sqlite_client.get(HOUR, headers={"Accept": accept}).headers["ETag"] for accept in (JSON, "text/csv") * 2}

    assert len(etags) == 2


def test_a_long_history_is_compressed(sqlite_client: FlaskClient) -> None:
    plain = sqlite_client.get(HOUR)

    answer = sqlite_client.get(HOUR, headers={"Accept-Encoding": "gzip"})

    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(answer.data) == plain.data


def test_while_another_long_history_is_built_one_that_waits_too_long_gets_503(
    sqlite_client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object, **__: object) -> None:
        raise Busy

    monkeypatch.setattr(Source, "respond", busy)
    response = sqlite_client.get(HOUR)

    assert response.status_code == 503
    assert response.headers["Retry-After"] == "5"
    assert response.json is not None
    assert "other long responses" in response.json["detail"]
