"""The overview as a client gets it, from a real database, against a plain model that adds up every minute."""

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from emotion_api.overview import HOURS
from emotion_api.reading import reader
from shared.batch import EMOTIONS
from shared.schema import device, device_state, rejected_message
from shared.settings import Settings
from tests.databases import add_minutes, add_row, raise_revision_of
from tests.web import OVERVIEW, served

NOON = datetime(2025, 11, 14, 12, 0, tzinfo=UTC)
MINUTE, HOUR, WEEK = timedelta(minutes=1), timedelta(hours=1), timedelta(days=7)
DEVICES = "jetson_1", "B"


class Clock:
    """The API's, to be set."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(database_url: str, clock: Clock) -> Iterator[FlaskClient]:
    with served(Settings(database_url=database_url, silent_after=10.0), now=clock) as client:
        yield client


def overview(client: FlaskClient) -> dict[str, Any]:
    answer = client.get(OVERVIEW)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json  # type: ignore[assignment]
    return found


def minute(at: datetime, device_id: str = "jetson_1", **values: Any) -> dict[str, Any]:
    times = {f"time_{emotion}": 0.0 for emotion in EMOTIONS}
    return {"device_id": device_id, "minute": at, "most_people": 1, "covered": None, **times, **values}


def store_minutes(writer: Engine, *minutes: Mapping[str, Any]) -> None:
    with writer.begin() as connection:
        add_minutes(connection, minutes)


def test_the_overview_is_the_agreed_json(writer: Engine, client: FlaskClient) -> None:
    add_row(writer, device, device_id="jetson_1", updated_at=NOON - timedelta(seconds=5))
    add_row(
        writer,
        device_state,
        device_id="jetson_1",
        received_at=NOON - timedelta(seconds=4.9),
        people=3,
        now_happy=4.5,
        covered_since=NOON - timedelta(days=5),
        clock_skew=-0.1,
        status="online",
        status_at=NOON - timedelta(seconds=100),
    )
    store_minutes(
        writer,
        minute(NOON - HOUR, time_happy=12.0, time_angry=1.2344, most_people=2, covered=59.5),
        minute(NOON - 2 * WEEK),
        minute(NOON - WEEK - HOUR, time_sad=7.5, most_people=4),
    )

    answer = client.get(OVERVIEW)

    assert answer.content_type == "application/json"
    assert answer.text == (
        '{"time_zone":"UTC","silent_after":10.0,"today":"2025-11-14T00:00:00Z","until":"2025-11-14T12:00:00Z",'
        '"before":"2025-11-07T00:00:00Z","cameras":[{"device_id":"jetson_1","device_name":"Entrance Camera",'
        '"online":true,"status":"online","status_at":"2025-11-14T11:58:20Z","last_batch":"2025-11-14T11:59:55Z",'
        '"received_at":"2025-11-14T11:59:55.100000Z","clock_skew":-0.1,"rejected_last_hour":0,'
        '"now":{"people":3,"seconds":{"happy":4.5,"sad":0.0,"angry":0.0,"neutral":0.0}},'
        '"today":{"seconds":{"happy":12.0,"sad":0.0,"angry":1.234,"neutral":0.0},"most_people":2,"covered":59.5},'
        '"before":{"seconds":{"happy":0.0,"sad":7.5,"angry":0.0,"neutral":0.0},"most_people":4,"covered":null},'
        '"hours":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,13,0]}]}'
    )


def test_without_any_device_the_list_is_empty(writer: Engine, client: FlaskClient) -> None:
    assert overview(client)["cameras"] == []


def test_a_silent_device_has_its_day_and_no_people(writer: Engine, client: FlaskClient, clock: Clock) -> None:
    add_row(writer, device, device_id="jetson_1", updated_at=NOON)
    add_row(
        writer,
        device_state,
        device_id="jetson_1",
        received_at=NOON,
        people=3,
        now_sad=2.0,
        covered_since=NOON - timedelta(days=1),
    )
    store_minutes(writer, minute(NOON, time_happy=1.0))
    clock.now += timedelta(seconds=11)

    (camera,) = overview(client)["cameras"]

    assert (camera["online"], camera["now"]["people"], camera["now"]["seconds"]["sad"]) == (False, 0, 0.0)
    assert (camera["today"]["seconds"]["happy"], camera["today"]["covered"]) == (1.0, 0.0)


def test_listed_are_the_devices_of_the_list_of_all_devices(writer: Engine, client: FlaskClient) -> None:
    add_row(writer, device, device_id="named", device_name="Hall")
    add_row(writer, device, device_id="B", updated_at=NOON)
    add_row(writer, device_state, device_id="connected", status="online", status_at=NOON)
    add_row(
        writer,
        rejected_message,
        received_at=NOON,
        topic="emotions/a/batch",
        reason="not JSON",
        payload=b"",
        payload_size=0,
    )

    found = [
        (each["device_id"], each["device_name"], each["rejected_last_hour"]) for each in overview(client)["cameras"]
    ]

    assert found == [("B", "B", 0), ("a", "a", 1), ("connected", "connected", 0), ("named", "Hall", 0)]


def test_a_committed_minute_shows_in_the_next_answer(writer: Engine, client: FlaskClient) -> None:
    add_row(writer, device, device_id="jetson_1", updated_at=NOON)
    overview(client)
    store_minutes(writer, minute(NOON, time_happy=1.0))
    raise_revision_of(writer, "jetson_1")

    assert overview(client)["cameras"][0]["today"]["seconds"]["happy"] == 1.0


def test_the_largest_seconds_add_up_to_finite_sums(writer: Engine, client: FlaskClient) -> None:
    add_row(writer, device, device_id="jetson_1", updated_at=NOON)
    store_minutes(writer, minute(NOON, time_sad=1.7e308, time_happy=1.7e308), minute(NOON - HOUR, time_sad=1.7e308))

    (camera,) = overview(client)["cameras"]

    assert 1e300 <= camera["today"]["seconds"]["sad"] < float("inf")
    assert camera["hours"][-2:] == [10**15, 2 * 10**15]


def test_parameters_of_other_addresses_are_refused(client: FlaskClient) -> None:
    answer = client.get(f"{OVERVIEW}?device_id=jetson_1")

    assert answer.status_code == 400
    assert "device_id" in answer.text


class Minute(NamedTuple):
    """A minute of the model, all emotions in one tuple."""

    at: datetime
    seconds: tuple[float, ...]
    most_people: int
    covered: float | None


def simulated(chance: random.Random, start: datetime, end: datetime, known_since: datetime) -> list[Minute]:
    """Minutes of one device: hours in which it sees people now and then, and hours of which there are no minutes."""
    minutes = []
    is_busy = True
    for number in range((end - start) // MINUTE):
        if number % 60 == 0:
            is_busy = chance.random() < 0.7
        if is_busy and chance.random() < 0.05:
            seconds = tuple(round(chance.uniform(0, 90), 3) for _ in EMOTIONS)
            covered = None if start + number * MINUTE < known_since else round(chance.uniform(0, 60), 3)
            minutes.append(Minute(start + number * MINUTE, seconds, chance.randrange(1, 6), covered))
    return minutes


def day_of(minutes: Sequence[Minute], *, is_known: bool) -> dict[str, Any]:
    """The part of the overview about a day with these minutes."""
    known = [each.covered for each in minutes if each.covered is not None]
    columns = zip(*(each.seconds for each in minutes), strict=True) if minutes else [(0.0,)] * len(EMOTIONS)
    seconds = [pytest.approx(sum(column), abs=0.001) for column in columns]
    return {
        "seconds": dict(zip(EMOTIONS, seconds, strict=True)),
        "most_people": max((each.most_people for each in minutes), default=0),
        "covered": pytest.approx(sum(known), abs=0.001) if known or is_known else None,
    }


def same_time_before(now: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Local midnight a week before, and the same local time of day: minute by minute, until its clock shows it.

    If that clock never shows it, as many minutes count as have passed since midnight on other days.
    """
    wanted = now.astimezone(zone).replace(tzinfo=None, fold=0) - WEEK

    def shown(at: datetime) -> datetime:
        return at.astimezone(zone).replace(tzinfo=None, fold=0)

    midnight = now - WEEK - timedelta(hours=30)
    while shown(midnight).date() != wanted.date():
        midnight += MINUTE
    instants = [midnight + number * MINUTE for number in range(26 * 60)]
    until = next((each for each in instants if shown(each) == wanted), None)
    return midnight, until or midnight + (wanted - shown(midnight))


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kathmandu"])
@pytest.mark.parametrize("around", [datetime(2025, 3, 9, tzinfo=UTC), datetime(2025, 11, 2, tzinfo=UTC)])
def test_days_equal_a_plain_model_over_weeks_with_a_clock_change(
    around: datetime, zone: str, writer: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "DEVICES_AT_ONCE", 1)
    chance, local = random.Random(f"{around} {zone}"), ZoneInfo(zone)
    start, end = around - WEEK - timedelta(days=2), around + WEEK + timedelta(days=2)
    known_since = around - timedelta(days=1, minutes=1_000)
    model = {device_id: simulated(chance, start, end, known_since) for device_id in DEVICES}
    for device_id, minutes in model.items():
        add_row(writer, device, device_id=device_id, updated_at=NOON)
        add_row(writer, device_state, device_id=device_id, covered_since=known_since)
        times = [f"time_{emotion}" for emotion in EMOTIONS]
        store_minutes(
            writer,
            *(
                minute(
                    each.at,
                    device_id,
                    most_people=each.most_people,
                    covered=each.covered,
                    **dict(zip(times, each.seconds, strict=True)),
                )
                for each in minutes
            ),
        )
    changes = [around + timedelta(days=day, hours=4, minutes=53 * number) for day in (0, 7) for number in range(5)]
    chosen = [around + chance.randrange(9 * 1_440) * MINUTE for _ in range(10)]
    clock = Clock()
    with served(Settings(database_url=database_url, time_zone=zone), now=clock) as client:
        for now in [*changes, *chosen]:
            clock.now = now
            raise_revision_of(writer, "jetson_1")
            answer = overview(client)
            hour = now.replace(minute=0)
            midnight, until = same_time_before(now, local)
            today = now.astimezone(local).date()
            back = (now - number * MINUTE for number in range(1_600))
            start_of_today = next(at for at in back if at.astimezone(local).date() != today) + MINUTE
            for camera in answer["cameras"]:
                minutes = [each for each in model[camera["device_id"]] if each.at < hour + HOUR]
                is_today = [each for each in minutes if each.at.astimezone(local).date() == today]
                assert camera["today"] == day_of(is_today, is_known=start_of_today >= known_since), now
                was_before = [each for each in minutes if midnight <= each.at < until]
                assert camera["before"] == day_of(was_before, is_known=midnight >= known_since), now
                hours = [hour + number * HOUR for number in range(1 - HOURS, 1)]
                sums = [sum(sum(each.seconds) for each in minutes if at <= each.at < at + HOUR) for at in hours]
                assert camera["hours"] == pytest.approx(sums, abs=0.501), now
            assert answer["until"] == f"{now:%Y-%m-%dT%H:%M:%SZ}"
