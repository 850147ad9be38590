"""The API as a client sees it, on a real database."""

import gzip
import logging
import os
import re
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, delete, event, insert, text, update
from werkzeug.test import TestResponse

from emotion_api import create_app
from emotion_api.reading import reader
from emotion_api.web.operations import OPERATIONS, Operation
from shared.batch import DEVICE_ID, EMOTIONS
from shared.database import sqlite_path, writer_engine
from shared.schema import device, metadata, person_emotion
from shared.settings import Settings, SettingsError
from tests.databases import make_tables, raise_revision_of
from tests.web import DEVICES, HISTORY, OVERVIEW, SUMMARY, served

STAMP = datetime(2025, 11, 14, 15, 30, tzinfo=UTC)
DASHBOARD = "http://localhost:3000"

SECURITY_HEADERS = (
    "Cache-Control",
    "Content-Security-Policy",
    "Cross-Origin-Resource-Policy",
    "Referrer-Policy",
    "X-Content-Type-Options",
    "X-Frame-Options",
)

NOT_ALLOWED_ORIGINS = (
    "http://localhost:3000.evil.com",
    "http://evilhttp://localhost:3000",
    "http://evil.com/http://localhost:3000",
    "http://localhost:30000",
    "http://localhost:3001",
    "http://localhost",
    "https://localhost:3000",
    "HTTP://LOCALHOST:3000",
    "http://Localhost:3000",
    "http://localhost:3000/",
    "http://localhostx3000",
    "http://127x0.0.1:3000",
    "null",
    "*",
)


@pytest.fixture
def client(database_url: str) -> Iterator[FlaskClient]:
    with served(Settings(database_url=database_url)) as client:
        yield client


@pytest.fixture
def sqlite_client(sqlite_url: str) -> Iterator[FlaskClient]:
    with served(Settings(database_url=sqlite_url)) as client:
        yield client


@pytest.fixture
def sqlite_writer(sqlite_url: str) -> Iterator[Engine]:
    engine = writer_engine(sqlite_url)
    metadata.create_all(engine)
    yield engine
    engine.dispose()


def store_person(writer: Engine, person_id: str = "1", *, device_id: str = "jetson_1", **values: Any) -> None:
    times = {f"time_{emotion}": 0.0 for emotion in EMOTIONS}
    row = {"device_id": device_id, "person_id": person_id, "last_seen": STAMP, **times, **values}
    with writer.begin() as connection:
        connection.execute(insert(person_emotion).values(row))


def store_device(writer: Engine, device_id: str, *, name: str | None = None, at: datetime | None = STAMP) -> None:
    with writer.begin() as connection:
        connection.execute(insert(device).values(device_id=device_id, device_name=name, updated_at=at))


def ids(answer: TestResponse) -> list[str]:
    assert answer.json is not None
    return [person["person_id"] for person in answer.json["current_people"]]


# The summary


def test_the_summary_is_the_agreed_json(writer: Engine, client: FlaskClient) -> None:
    store_device(writer, "jetson_1")
    store_person(
        writer,
        time_happy=145.2,
        time_sad=23.1,
        time_angry=5.3,
        last_seen=datetime(2025, 11, 14, 15, 29, 55, tzinfo=UTC),
    )

    answer = client.get(f"{SUMMARY}?device_id=jetson_1")

    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    assert answer.text == (
        '{"device_id":"jetson_1","device_name":"Entrance Camera","updated_at":"2025-11-14T15:30:00Z",'
        '"emotion_totals":{"happy":145.2,"sad":23.1,"angry":5.3,"neutral":0.0},'
        '"history_totals":{"happy":0.0,"sad":0.0,"angry":0.0,"neutral":0.0},'
        '"now":{"people":0,"seconds":{"happy":0.0,"sad":0.0,"angry":0.0,"neutral":0.0}},'
        '"current_people":[{"person_id":"1","current_emotion":"happy","time_happy":145.2,"time_sad":23.1,'
        '"time_angry":5.3,"time_neutral":0.0,"last_seen":"2025-11-14T15:29:55Z","active_at":null,"emotion_now":null}]}'
    )


def test_the_summary_without_a_device_id_is_that_of_jetson_1(writer: Engine, client: FlaskClient) -> None:
    store_person(writer, "camera's")
    store_person(writer, "other's", device_id="jetson_2")

    answer = client.get(SUMMARY)

    assert ids(answer) == ["camera's"]


def test_a_device_nobody_has_heard_of_has_zero_totals_and_no_people(writer: Engine, client: FlaskClient) -> None:
    answer = client.get(f"{SUMMARY}?device_id=unknown")

    assert answer.status_code == 200
    assert answer.text == (
        '{"device_id":"unknown","device_name":"unknown","updated_at":null,'
        '"emotion_totals":{"happy":0.0,"sad":0.0,"angry":0.0,"neutral":0.0},'
        '"history_totals":{"happy":0.0,"sad":0.0,"angry":0.0,"neutral":0.0},'
        '"now":{"people":0,"seconds":{"happy":0.0,"sad":0.0,"angry":0.0,"neutral":0.0}},"current_people":[]}'
    )


def test_people_of_one_stamp_are_ordered_by_code_points_in_every_database(writer: Engine, client: FlaskClient) -> None:
    for person_id in ["é", "b", "a", "10", "B", "9", "_", "-a", "😀"]:
        store_person(writer, person_id)
    store_person(writer, "newest", last_seen=STAMP + timedelta(microseconds=1))

    answer = client.get(SUMMARY)

    assert ids(answer) == ["newest", "-a", "10", "9", "B", "_", "a", "b", "é", "😀"]


def test_microseconds_of_a_stamp_are_kept(writer: Engine, client: FlaskClient) -> None:
    store_person(writer, last_seen=STAMP.replace(microsecond=120_000))

    answer = client.get(SUMMARY)

    assert '"last_seen":"2025-11-14T15:30:00.120000Z"' in answer.text


@pytest.mark.parametrize("stamp", ["2025-11-14 15:30:00", "2025-11-14T15:30:00", "2025-11-14T15:30:00Z"])
def test_a_stamp_that_another_program_wrote_is_read(
    stamp: str, sqlite_writer: Engine, sqlite_client: FlaskClient
) -> None:
    store_person(sqlite_writer)
    execute(sqlite_writer, text("UPDATE person_emotion SET last_seen = :stamp").bindparams(stamp=stamp))

    answer = sqlite_client.get(SUMMARY)

    assert answer.json is not None
    assert answer.json["current_people"][0]["last_seen"] == "2025-11-14T15:30:00Z"


def test_the_largest_seconds_add_up_to_a_finite_total(writer: Engine, client: FlaskClient) -> None:
    store_person(writer, "1", time_sad=1.7e308)
    store_person(writer, "2", time_sad=1.7e308)

    answer = client.get(SUMMARY)

    assert answer.json is not None
    assert answer.json["emotion_totals"]["sad"] == 1.7976931348623157e308


def test_a_name_in_the_database_wins_over_the_setting(writer: Engine, client: FlaskClient) -> None:
    store_device(writer, "jetson_1", name="Back Door")

    answer = client.get(SUMMARY)

    assert answer.json is not None
    assert answer.json["device_name"] == "Back Door"


def test_a_device_without_any_name_is_named_by_its_id(writer: Engine, client: FlaskClient) -> None:
    store_device(writer, "jetson_9")

    answer = client.get(f"{SUMMARY}?device_id=jetson_9")

    assert answer.json is not None
    assert answer.json["device_name"] == "jetson_9"


def test_a_device_that_was_only_named_has_no_update_yet(writer: Engine, client: FlaskClient) -> None:
    store_device(writer, "jetson_9", name="Hall", at=None)

    answer = client.get(f"{SUMMARY}?device_id=jetson_9")

    assert answer.json is not None
    assert (answer.json["device_name"], answer.json["updated_at"]) == ("Hall", None)


def test_the_settings_name_devices(sqlite_writer: Engine, sqlite_url: str) -> None:
    settings = Settings(database_url=sqlite_url, device_names=MappingProxyType({"jetson_2": "Hall"}))

    with served(settings) as client:
        answer = client.get(f"{SUMMARY}?device_id=jetson_2")

    assert answer.json is not None
    assert answer.json["device_name"] == "Hall"


@pytest.mark.parametrize("change", ["insert", "update", "delete", "name"])
def test_every_commit_shows_in_the_next_answer(change: str, writer: Engine, client: FlaskClient) -> None:
    store_person(writer, "1")
    before = client.get(SUMMARY)
    statements: dict[str, Callable[[], Any]] = {
        "insert": lambda: store_person(writer, "2"),
        "update": lambda: execute(writer, update(person_emotion).values(time_sad=1.0)),
        "delete": lambda: execute(writer, delete(person_emotion)),
        "name": lambda: store_device(writer, "jetson_1", name="Hall"),
    }

    statements[change]()
    raise_revision_of(writer, "jetson_1")

    assert client.get(SUMMARY).data != before.data


def execute(writer: Engine, statement: Any) -> None:
    with writer.begin() as connection:
        connection.execute(statement)


def test_what_is_not_committed_does_not_show(writer: Engine, client: FlaskClient) -> None:
    store_person(writer)
    before = client.get(SUMMARY)

    with writer.begin() as connection:
        connection.execute(update(person_emotion).values(time_sad=1.0))
        during = client.get(SUMMARY)

    assert during.data == before.data


def test_an_unchanged_sqlite_database_is_not_queried_again(sqlite_writer: Engine, sqlite_client: FlaskClient) -> None:
    store_person(sqlite_writer)
    first = sqlite_client.get(SUMMARY)
    statements: list[str] = []
    event.listen(
        sqlite_client.application.extensions["engine"],
        "before_cursor_execute",
        lambda connection, cursor, statement, *rest: statements.append(statement),
    )

    second = sqlite_client.get(SUMMARY)

    assert second.data == first.data
    assert statements == []


def test_more_devices_than_are_kept_are_all_answered(sqlite_writer: Engine, sqlite_client: FlaskClient) -> None:
    for number in range(300):
        answer = sqlite_client.get(f"{SUMMARY}?device_id=camera_{number}")

        assert answer.json is not None
        assert answer.json["device_id"] == f"camera_{number}"


def test_an_unchanged_summary_is_not_sent_again(writer: Engine, client: FlaskClient) -> None:
    first = client.get(SUMMARY)

    second = client.get(SUMMARY, headers={"If-None-Match": first.headers["ETag"]})

    assert second.status_code == 304
    assert second.data == b""
    assert second.headers["ETag"] == first.headers["ETag"]


def test_a_changed_summary_is_sent_whatever_the_client_has(writer: Engine, client: FlaskClient) -> None:
    first = client.get(SUMMARY)
    store_person(writer)
    raise_revision_of(writer, "jetson_1")

    second = client.get(SUMMARY, headers={"If-None-Match": first.headers["ETag"]})

    assert second.status_code == 200
    assert ids(second) == ["1"]


# What is asked for


# The totals alone


def test_the_totals_alone_are_the_summary_without_its_people(writer: Engine, client: FlaskClient) -> None:
    store_device(writer, "jetson_1", name="Hall")
    store_person(writer, "1", time_happy=0.1)
    store_person(writer, "2", time_happy=0.2)
    whole = client.get(SUMMARY).json

    totals = client.get(f"{SUMMARY}?fields=totals").json

    assert whole is not None
    del whole["current_people"]
    assert totals == whole


def test_the_totals_of_very_many_people_are_those_of_the_whole_summary(writer: Engine, client: FlaskClient) -> None:
    store_people(writer, reader.MANY_PEOPLE + 1)
    whole = client.get(SUMMARY).json

    totals = client.get(f"{SUMMARY}?fields=totals").json

    assert whole is not None
    assert totals is not None
    assert totals["emotion_totals"] == pytest.approx(whole["emotion_totals"], rel=1e-12)


def test_the_largest_seconds_of_very_many_people_add_up_to_a_finite_total(writer: Engine, client: FlaskClient) -> None:
    store_people(writer, reader.MANY_PEOPLE + 1, time_angry=1.7e308)

    totals = client.get(f"{SUMMARY}?fields=totals").json

    assert totals is not None
    assert 1e300 < totals["emotion_totals"]["angry"] < float("inf")


@pytest.mark.parametrize("query", ["fields=", "fields=people", "fields=totals&fields=totals", "fields=TOTALS"])
def test_other_fields_are_refused(query: str, sqlite_writer: Engine, sqlite_client: FlaskClient) -> None:
    answer = sqlite_client.get(f"{SUMMARY}?{query}")

    assert answer.status_code == 400
    assert "totals" in answer.json["detail"]  # type: ignore[index]


# Very many people


def test_very_many_people_are_listed_in_the_order_of_a_few(writer: Engine, client: FlaskClient) -> None:
    store_people(writer, reader.MANY_PEOPLE + 1)

    answer = client.get(SUMMARY)

    assert answer.json is not None
    seen = [(person["last_seen"], person["person_id"]) for person in answer.json["current_people"]]
    assert len(set(seen)) == reader.MANY_PEOPLE + 1
    by_id = sorted(seen, key=itemgetter(1))
    assert seen == sorted(by_id, key=itemgetter(0), reverse=True)


def store_people(writer: Engine, people: int, **values: Any) -> None:
    """People of jetson_1 whose ids, seconds and timestamps are in three different orders."""
    rows = [
        {"device_id": "jetson_1", "person_id": str(n), "last_seen": STAMP + timedelta(seconds=n * 7 % 100)}
        | {f"time_{emotion}": n / 10 for emotion in EMOTIONS}
        | values
        for n in range(people)
    ]
    with writer.begin() as connection:
        connection.execute(insert(person_emotion), rows)


# Compression


@pytest.mark.parametrize("accepted", ["gzip", "gzip, deflate, br, zstd", "br;q=1.0, gzip;q=0.5", "*"])
def test_a_long_answer_is_compressed_for_who_accepts_it(accepted: str, writer: Engine, client: FlaskClient) -> None:
    store_people(writer, 100)
    plain = client.get(SUMMARY)

    answer = client.get(SUMMARY, headers={"Accept-Encoding": accepted})

    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.content_length == len(answer.data) < len(plain.data) / 4
    assert gzip.decompress(answer.data) == plain.data
    assert answer.headers["ETag"] != plain.headers["ETag"]


@pytest.mark.parametrize("accepted", [None, "", "identity", "br", "gzip;q=0", "gzipped"])
def test_it_is_not_for_who_does_not(accepted: str | None, sqlite_writer: Engine, sqlite_client: FlaskClient) -> None:
    store_people(sqlite_writer, 100)

    answer = sqlite_client.get(SUMMARY, headers={"Accept-Encoding": accepted} if accepted is not None else {})

    assert "Content-Encoding" not in answer.headers
    assert answer.json is not None


def test_a_short_answer_is_not_compressed(sqlite_writer: Engine, sqlite_client: FlaskClient) -> None:
    store_person(sqlite_writer)

    answer = sqlite_client.get(SUMMARY, headers={"Accept-Encoding": "gzip"})

    assert "Content-Encoding" not in answer.headers


def test_an_unchanged_answer_is_compressed_once(
    sqlite_writer: Engine, sqlite_client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_people(sqlite_writer, 100)
    first = sqlite_client.get(SUMMARY, headers={"Accept-Encoding": "gzip"})
    monkeypatch.setattr(zlib, "compressobj", None)

    second = sqlite_client.get(SUMMARY, headers={"Accept-Encoding": "gzip"})

    assert second.data == first.data


def test_a_compressed_answer_that_is_unchanged_is_not_sent_again(
    sqlite_writer: Engine, sqlite_client: FlaskClient
) -> None:
    store_people(sqlite_writer, 100)
    headers = {"Accept-Encoding": "gzip"}
    first = sqlite_client.get(SUMMARY, headers=headers)

    second = sqlite_client.get(SUMMARY, headers=headers | {"If-None-Match": first.headers["ETag"]})
    other_coding = sqlite_client.get(SUMMARY, headers={"If-None-Match": first.headers["ETag"]})

    assert (second.status_code, second.data) == (304, b"")
    assert other_coding.status_code == 200


@pytest.mark.parametrize("device_id", ["a", "A-Z_0.9:x", "x" * 64])
def test_a_valid_device_id_is_answered(device_id: str, sqlite_writer: Engine, sqlite_client: FlaskClient) -> None:
    answer = sqlite_client.get(SUMMARY, query_string={"device_id": device_id})

    assert answer.json is not None
    assert answer.json["device_id"] == device_id


@pytest.mark.parametrize(
    "query",
    ["device_id=", "device_id=a%20b", "device_id=a%0A", "device_id=%FF", "device_id=a/b", f"device_id={'x' * 65}"],
)
def test_an_invalid_device_id_is_refused_with_the_rule(
    query: str, sqlite_writer: Engine, sqlite_client: FlaskClient
) -> None:
    answer = sqlite_client.get(f"{SUMMARY}?{query}")

    assert answer.status_code == 400
    assert answer.json == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "device_id has to be 1 to 64 of A-Z a-z 0-9 . _ : -",
    }


def test_two_device_ids_are_refused(sqlite_writer: Engine, sqlite_client: FlaskClient) -> None:
    answer = sqlite_client.get(f"{SUMMARY}?device_id=a&device_id=b")

    assert answer.status_code == 400
    assert "more than once" in answer.text


def test_health_is_ok(sqlite_client: FlaskClient) -> None:
    answer = sqlite_client.get("/")

    assert answer.status_code == 200
    assert answer.json == {"status": "ok"}


@pytest.mark.parametrize("path", ["/", SUMMARY, HISTORY, DEVICES])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"])
def test_every_other_method_is_pointed_to_the_mqtt_topic(path: str, method: str, sqlite_client: FlaskClient) -> None:
    answer = sqlite_client.open(path, method=method)

    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert answer.json is not None
    assert answer.json["detail"] == (
        "This API is read-only. Devices publish batches over MQTT to emotions/<device_id>/batch. "
        "For a program that can only POST, run python -m emotion_device bridge."
    )


def test_the_mqtt_topic_has_the_prefix_of_the_settings(sqlite_url: str) -> None:
    with served(Settings(database_url=sqlite_url, mqtt_topic_prefix="site/a")) as client:
        answer = client.post(SUMMARY)

    assert "site/a/<device_id>/batch" in answer.text


def test_head_is_get_without_the_body(sqlite_writer: Engine, sqlite_client: FlaskClient) -> None:
    get, head = sqlite_client.get(SUMMARY), sqlite_client.head(SUMMARY)

    assert head.status_code == 200
    assert head.data == b""
    assert head.headers == get.headers


# What goes wrong


def test_an_unknown_path_is_a_problem(sqlite_client: FlaskClient) -> None:
    answer = sqlite_client.get("/nothing")

    assert answer.status_code == 404
    assert answer.content_type == "application/problem+json"
    assert answer.json is not None
    assert answer.json == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "Not found. See /docs for the list of endpoints.",
    }


def assert_unavailable(answer: TestResponse) -> None:
    assert answer.status_code == 503
    assert answer.content_type == "application/problem+json"
    assert int(answer.headers["Retry-After"]) > 0
    assert "EMOTION_DATABASE_URL" in answer.text
    assert not re.search(r"emotion\.db|postgres|127\.0\.0\.1|SELECT", answer.text)


def test_a_database_without_tables_is_a_503(database_url: str, client: FlaskClient) -> None:
    assert_unavailable(client.get(SUMMARY))


def test_the_summary_comes_as_soon_as_the_tables_are_there(database_url: str, client: FlaskClient) -> None:
    client.get(SUMMARY)
    make_tables(database_url)

    assert client.get(SUMMARY).status_code == 200


def test_health_is_ok_without_a_database(sqlite_client: FlaskClient) -> None:
    assert_unavailable(sqlite_client.get(SUMMARY))

    assert sqlite_client.get("/").status_code == 200


def test_the_api_does_not_create_the_database(sqlite_url: str, sqlite_client: FlaskClient) -> None:
    sqlite_client.get(SUMMARY)

    path = sqlite_path(sqlite_url)
    assert path is not None
    assert not path.exists()


def test_an_unreachable_server_is_a_503_without_its_address() -> None:
    url = "postgresql+psycopg://someone:secret@127.0.0.1:1/emotion"

    with served(Settings(database_url=url)) as client:
        answer = client.get(SUMMARY)

    assert_unavailable(answer)
    assert "secret" not in answer.text


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to have a header" * 100])
def test_a_file_that_is_no_database_is_a_503(content: bytes, sqlite_url: str, sqlite_client: FlaskClient) -> None:
    path = sqlite_path(sqlite_url)
    assert path is not None
    path.write_bytes(content)

    assert_unavailable(sqlite_client.get(SUMMARY))


def test_an_outage_is_logged_once_and_so_is_its_end(
    sqlite_url: str, sqlite_client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        sqlite_client.get(SUMMARY)
    make_tables(sqlite_url)
    for _ in range(3):
        sqlite_client.get(SUMMARY)

    start, end = [record.getMessage() for record in caplog.records if record.name.startswith("emotion_api")]
    assert start == "cannot read the database, answering 503 until it can be read: unable to open database file"
    assert re.fullmatch(r"the database can be read again after \d+\.\d s", end)


def test_a_deleted_file_is_a_503(sqlite_url: str, sqlite_writer: Engine, sqlite_client: FlaskClient) -> None:
    sqlite_client.get(SUMMARY)
    path = sqlite_path(sqlite_url)
    assert path is not None

    path.unlink()

    assert_unavailable(sqlite_client.get(SUMMARY))


def test_a_replaced_file_is_read_at_once(sqlite_url: str, sqlite_writer: Engine, sqlite_client: FlaskClient) -> None:
    sqlite_client.get(SUMMARY)
    path = sqlite_path(sqlite_url)
    assert path is not None
    other = writer_engine(f"sqlite:///{path.with_name('other.db')}")
    metadata.create_all(other)
    store_person(other, "new")
    other.dispose()

    for suffix in ("", "-wal", "-shm"):  # a log left behind would be read as the new file's
        path.with_name(path.name + suffix).unlink()
    os.replace(path.with_name("other.db"), path)

    assert ids(sqlite_client.get(SUMMARY)) == ["new"]


def test_what_nobody_foresaw_is_a_500_that_only_the_log_explains(
    sqlite_writer: Engine, sqlite_client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    store_person(sqlite_writer)
    execute(sqlite_writer, text("UPDATE person_emotion SET last_seen = 'yesterday'"))

    with caplog.at_level(logging.ERROR):
        answer = sqlite_client.get(SUMMARY, headers={"Origin": DASHBOARD})

    assert answer.status_code == 500
    assert answer.content_type == "application/problem+json"
    assert "yesterday" not in answer.text
    assert "Traceback" not in answer.text
    assert "yesterday" in caplog.text
    assert answer.headers["Access-Control-Allow-Origin"] == DASHBOARD


def test_a_wrong_setting_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOTION_CORS_ORIGINS", "*")

    with pytest.raises(SettingsError, match="EMOTION_CORS_ORIGINS"):
        create_app()


# Browsers


@pytest.mark.parametrize("path", ["/", SUMMARY, "/nothing", "/openapi.json", "/docs", "/redoc", "/docs/assets/docs.js"])
def test_every_answer_has_every_security_header_once(path: str, sqlite_client: FlaskClient) -> None:
    answer = sqlite_client.get(path)

    assert {name: len(answer.headers.getlist(name)) for name in SECURITY_HEADERS} == dict.fromkeys(SECURITY_HEADERS, 1)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/", SUMMARY, "/nothing"])
@pytest.mark.parametrize("origin", [DASHBOARD, "http://127.0.0.1:3000"])
def test_a_configured_origin_may_read_answers_and_errors(path: str, origin: str, sqlite_client: FlaskClient) -> None:
    answer = sqlite_client.get(path, headers={"Origin": origin})

    assert answer.headers.getlist("Access-Control-Allow-Origin") == [origin]
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "POST"])
@pytest.mark.parametrize("origin", NOT_ALLOWED_ORIGINS)
def test_no_other_origin_may_read_an_answer(origin: str, method: str, sqlite_client: FlaskClient) -> None:
    answer = sqlite_client.open("/", method=method, headers={"Origin": origin, "Access-Control-Request-Method": "GET"})

    assert not [name for name in answer.headers.keys() if name.lower().startswith("access-control")]  # noqa: SIM118


@pytest.mark.parametrize("origin", ["http://a*b.example", "http://[::1]:3000", "http://a.example"])
def test_an_origin_is_never_taken_for_a_pattern(origin: str, sqlite_url: str) -> None:
    with served(Settings(database_url=sqlite_url, cors_origins=(origin,))) as client:
        allowed = client.get("/", headers={"Origin": origin})
        similar = client.get("/", headers={"Origin": "http://aab.example"})
        other = client.get("/", headers={"Origin": "http://axexample"})

    assert allowed.headers["Access-Control-Allow-Origin"] == origin
    assert "Access-Control-Allow-Origin" not in similar.headers
    assert "Access-Control-Allow-Origin" not in other.headers


@pytest.mark.parametrize("origin", [None, DASHBOARD, "http://evil.com"])
def test_caches_are_told_that_the_origin_counts(origin: str | None, sqlite_client: FlaskClient) -> None:
    answer = sqlite_client.get("/", headers={"Origin": origin} if origin else {})

    assert answer.headers.getlist("Vary") == ["Origin, Accept-Encoding"]


def test_a_preflight_allows_reading_only(sqlite_client: FlaskClient) -> None:
    answer = sqlite_client.options(
        SUMMARY,
        headers={
            "Origin": DASHBOARD,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "content-type",
        },
    )

    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == DASHBOARD
    assert answer.headers["Access-Control-Allow-Methods"] == "GET, HEAD, OPTIONS"
    assert answer.headers["Access-Control-Allow-Headers"] == "content-type"


# The documentation


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_a_page_loads_everything_from_this_server_and_holds_no_script(page: str, sqlite_client: FlaskClient) -> None:
    html = sqlite_client.get(page).text
    loaded = re.findall(r'(?:src|href|spec-url)="([^"]+)"', html)

    assert loaded
    assert all(sqlite_client.get(f"/{path}").status_code == 200 for path in loaded)
    assert not re.search(r"<script[^>]*>[^<]|<style|\son\w+=", html)


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_a_page_runs_no_inline_script_and_talks_to_nobody_else(page: str, sqlite_client: FlaskClient) -> None:
    policy = sqlite_client.get(page).headers["Content-Security-Policy"].split("; ")

    assert {"default-src 'none'", "script-src 'self'", "connect-src 'self'"} <= set(policy)


def test_an_asset_is_not_sent_again(sqlite_client: FlaskClient) -> None:
    first = sqlite_client.get("/docs/assets/redoc.js")

    second = sqlite_client.get("/docs/assets/redoc.js", headers={"If-None-Match": first.headers["ETag"]})

    assert first.mimetype == "text/javascript"
    assert second.status_code == 304


@pytest.mark.parametrize("name", ["scalar.js", "__init__.py", "..%2fdocs.py", "static/docs.js"])
def test_no_other_file_is_served(name: str, sqlite_client: FlaskClient) -> None:
    assert sqlite_client.get(f"/docs/assets/{name}").status_code == 404


@pytest.mark.parametrize("path", [SUMMARY, HISTORY, DEVICES, "/openapi.json", "/dashboard", "/docs/assets/redoc.js"])
@pytest.mark.parametrize("form", ['"{}-gzip"', '"{}-br"', 'W/"{}-zstd"', 'W/"{}"', '"other", "{}-gzip"'])
def test_a_response_that_a_proxy_has_compressed_is_not_sent_again(
    path: str, form: str, sqlite_writer: Engine, sqlite_client: FlaskClient
) -> None:
    """Apache appends the name of its compression to the entity tag, nginx makes the tag weak."""
    first = sqlite_client.get(path)

    second = sqlite_client.get(path, headers={"If-None-Match": form.format(first.headers["ETag"].strip('"'))})
    other = sqlite_client.get(path, headers={"If-None-Match": form.format("0" * 32)})

    assert (first.status_code, second.status_code, other.status_code) == (200, 304, 200)


def test_the_addresses_of_the_openapi_document_are_relative_to_it(sqlite_client: FlaskClient) -> None:
    document = sqlite_client.get("/openapi.json").json

    assert document is not None
    assert [server["url"] for server in document["servers"]] == ["."]


def test_the_openapi_document_describes_every_address(sqlite_client: FlaskClient) -> None:
    document = sqlite_client.get("/openapi.json").json

    assert document is not None
    assert document["openapi"].startswith("3.1")
    described = {path: list(methods) for path, methods in document["paths"].items()}
    data = (SUMMARY, HISTORY, OVERVIEW, DEVICES)
    assert described == {path: ["get"] for path in ("/", "/healthz", "/readyz", "/metrics", *data)}


def test_the_openapi_document_has_the_rule_of_the_device_id(sqlite_client: FlaskClient) -> None:
    document = sqlite_client.get("/openapi.json").json

    assert document is not None
    parameter, *_ = document["paths"][SUMMARY]["get"]["parameters"]
    assert (parameter["name"], parameter["in"], parameter["required"]) == ("device_id", "query", False)
    assert parameter["schema"]["pattern"] == f"^{DEVICE_ID.pattern}$"
    assert parameter["schema"]["default"] == "jetson_1"


@pytest.mark.parametrize("path", [SUMMARY, HISTORY, DEVICES])
def test_the_openapi_document_has_every_status(path: str, sqlite_client: FlaskClient) -> None:
    document = sqlite_client.get("/openapi.json").json

    assert document is not None
    responses = document["paths"][path]["get"]["responses"]
    assert set(responses) == {"200", "304", "400", "405", "414", "421", "500", "503"}
    assert list(responses["414"]["content"]) == ["text/html"]
    assert all(
        list(responses[status]["content"]) == ["application/problem+json"]
        for status in ("400", "405", "421", "500", "503")
    )


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.view)
def test_every_operation_of_the_document_names_the_view_at_its_address(
    operation: Operation, sqlite_client: FlaskClient
) -> None:
    adapter = sqlite_client.application.url_map.bind("localhost")

    assert adapter.match(operation.path, method="GET") == (operation.view, {})


def test_the_example_in_the_openapi_document_is_what_the_api_answers(
    sqlite_writer: Engine, sqlite_client: FlaskClient
) -> None:
    document = sqlite_client.get("/openapi.json").json
    assert document is not None
    example = document["paths"][SUMMARY]["get"]["responses"]["200"]["content"]["application/json"]["example"]
    store_device(sqlite_writer, "jetson_1")
    store_person(sqlite_writer)

    answer = sqlite_client.get(SUMMARY).json

    assert answer is not None
    assert list(answer) == list(example)
    assert list(answer["emotion_totals"]) == list(example["emotion_totals"])
    assert list(answer["current_people"][0]) == list(example["current_people"][0])
