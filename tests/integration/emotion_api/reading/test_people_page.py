"""The summary lists some of a device's people: seen_within, limit and after, of few people and of very many."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, insert, update

from emotion_api.reading import reader
from shared.schema import device, device_state, person_emotion
from shared.settings import Settings
from tests.web import SUMMARY, served

NOON = datetime(2025, 11, 14, 12, 0, tzinfo=UTC)

ODD_IDS = ("é", "b", "a", "10", "B", "9", "_", "-a", "😀", "\ufffd", "\uff41")


@pytest.fixture
def client(database_url: str) -> Iterator[FlaskClient]:
    with served(Settings(database_url=database_url), now=lambda: NOON) as client:
        yield client


@pytest.fixture(params=[20, 300])
def people(request: pytest.FixtureRequest, writer: Engine, monkeypatch: pytest.MonkeyPatch) -> int:
    """So many people, the first 11 with awkward ids; more than 100 count as many. Groups have one timestamp."""
    monkeypatch.setattr(reader, "MANY_PEOPLE", 100)
    number: int = request.param
    ids = [*ODD_IDS, *map(str, range(1000, 1000 + number - len(ODD_IDS)))]
    store_people(writer, {person: NOON - timedelta(seconds=index * 7 % 10) for index, person in enumerate(ids)})
    store_people(writer, {"another": NOON}, device_id="jetson_2")
    return number


def store_people(writer: Engine, seen: dict[str, datetime], *, device_id: str = "jetson_1") -> None:
    times = {"time_happy": 1.0, "time_sad": 0.0, "time_angry": 0.0, "time_neutral": 0.0}
    rows = [
        {"device_id": device_id, "person_id": person, "last_seen": last_seen, **times}
        for person, last_seen in seen.items()
    ]
    with writer.begin() as connection:
        connection.execute(insert(person_emotion), rows)


def listed(client: FlaskClient, **query: Any) -> list[dict[str, Any]]:
    answer = client.get(SUMMARY, query_string=query)
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    found: list[dict[str, Any]] = answer.json["current_people"]
    return found


@pytest.mark.parametrize("many", [0, 200])
@pytest.mark.parametrize("behind", [0, 5 * 3_600])
def test_active_within_lists_those_whose_seconds_grew(
    many: int, behind: float, writer: Engine, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that names everyone it knows in each batch, also if its clock is five hours behind."""
    monkeypatch.setattr(reader, "MANY_PEOPLE", 100)
    stamp = NOON - timedelta(seconds=behind + 2)
    store_people(writer, {person: stamp for person in ("moving", "resting", "never", *map(str, range(many)))})
    active = {"moving": stamp - timedelta(seconds=5), "resting": stamp - timedelta(seconds=15)}
    with writer.begin() as connection:
        for person_id, active_at in active.items():
            connection.execute(
                update(person_emotion).where(person_emotion.c.person_id == person_id).values(active_at=active_at)
            )
        connection.execute(insert(device).values(device_id="jetson_1", updated_at=stamp))
        connection.execute(insert(device_state).values(device_id="jetson_1", received_at=NOON - timedelta(seconds=2)))

    assert [each["person_id"] for each in listed(client, active_within=10)] == ["moving"]
    assert [each["person_id"] for each in listed(client, active_within=20, limit=1)] == ["moving"]
    assert [each["person_id"] for each in listed(client, active_within=20, after="moving")] == ["resting"]
    assert client.get(f"{SUMMARY}?active_within=10&after=resting").status_code == 400


def test_page_by_page_the_list_is_the_whole_list(people: int, client: FlaskClient) -> None:
    whole = listed(client)

    pages, page = [], listed(client, limit=7)
    while page:
        pages += page
        page = listed(client, limit=7, after=page[-1]["person_id"])

    assert len(whole) == people
    assert pages == whole


@pytest.mark.parametrize("index", [0, 5, 19])
def test_after_a_person_come_all_who_follow(index: int, people: int, client: FlaskClient) -> None:
    whole = listed(client)

    assert listed(client, after=whole[index]["person_id"]) == whole[index + 1 :]


@pytest.mark.parametrize("seconds", [0.5, 1, 3.5, 9, 1e300])
def test_seen_within_lists_those_of_the_last_seconds(seconds: float, people: int, client: FlaskClient) -> None:
    whole = listed(client)
    stamps = {person["person_id"]: datetime.fromisoformat(person["last_seen"]) for person in whole}
    expected = [each for each in whole if (NOON - stamps[each["person_id"]]).total_seconds() <= seconds]

    assert listed(client, seen_within=seconds) == expected
    assert listed(client, seen_within=seconds, limit=2) == expected[:2]
    assert listed(client, seen_within=seconds, after=expected[1]["person_id"]) == expected[2:]
    assert listed(client, seen_within=seconds, limit=2, after=expected[0]["person_id"]) == expected[1:3]


def test_whoever_is_seen_from_the_future_is_listed(writer: Engine, client: FlaskClient) -> None:
    store_people(writer, {"1": NOON + timedelta(seconds=30)})

    assert len(listed(client, seen_within=1)) == 1


@pytest.mark.parametrize("query", [{"limit": 1}, {"seen_within": 0.5}, {"seen_within": 1e-9, "limit": 5}])
def test_the_totals_are_those_of_all_people(query: dict[str, Any], people: int, client: FlaskClient) -> None:
    answer = client.get(SUMMARY, query_string=query).json

    assert answer is not None
    assert len(answer["current_people"]) < people
    assert answer["emotion_totals"]["happy"] == people


@pytest.mark.parametrize(
    "query",
    [
        {"after": "nobody"},
        {"after": "another"},
        {"after": "nobody", "limit": 5},
        {"after": "\0"},
        {"after": "b", "seen_within": 1e-9},
        {"after": "b", "seen_within": 1e-9, "limit": 5},
    ],
)
def test_after_somebody_who_is_not_in_the_list_nobody_comes(
    query: dict[str, Any], people: int, client: FlaskClient
) -> None:
    answer = client.get(SUMMARY, query_string=query)

    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["detail"] == (
        f"after names a person who is not in the list ({query['after']!r}): begin again without it."
    )


def test_a_device_nobody_has_heard_of_has_nobody_to_list(writer: Engine, client: FlaskClient) -> None:
    assert listed(client, device_id="unknown", limit=5, seen_within=5) == []


@pytest.mark.parametrize("query", ["limit=0", "limit=1&limit=1", "seen_within=soon", "fields=totals&limit=1"])
def test_what_cannot_be_asked_is_refused(query: str, people: int, client: FlaskClient) -> None:
    answer = client.get(f"{SUMMARY}?{query}")

    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"
