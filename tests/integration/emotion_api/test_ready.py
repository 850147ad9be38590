"""GET /readyz: whether this worker can read its database now, and nothing of what is in it."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, create_engine, event, insert, text
from sqlalchemy.pool import QueuePool

from emotion_api import create_app
from shared.database import sqlite_path, writer_engine
from shared.schema import device
from shared.settings import Settings
from tests.databases import disposing, make_tables
from tests.postgresql import PostgreSQL
from tests.waiting import wait_until
from tests.web import SUMMARY

READY = "/readyz"


@pytest.fixture
def client(database_url: str) -> Iterator[FlaskClient]:
    app = create_app(Settings(database_url=database_url))
    yield app.test_client()
    app.extensions["engine"].dispose()


def execute(database_url: str, *statements: str) -> None:
    with disposing(writer_engine(database_url)) as writer, writer.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_it_is_ready_while_the_tables_can_be_read(database_url: str, client: FlaskClient) -> None:
    make_tables(database_url)

    answer = client.get(READY)

    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    assert answer.text == '{"status":"ok"}'


def test_it_is_ready_as_soon_as_the_tables_are_there_and_unready_as_soon_as_they_are_gone(
    database_url: str, client: FlaskClient
) -> None:
    statuses = [client.get(READY).status_code]
    make_tables(database_url)
    statuses.append(client.get(READY).status_code)
    execute(database_url, "DROP TABLE device")
    statuses.append(client.get(READY).status_code)

    assert statuses == [503, 200, 503]


def test_each_answer_reads_the_table_of_devices_anew(database_url: str, client: FlaskClient) -> None:
    make_tables(database_url)
    client.get(SUMMARY)
    statements: list[str] = []
    engine: Engine = client.application.extensions["engine"]
    event.listen(engine, "before_cursor_execute", lambda c, cursor, statement, *rest: statements.append(statement))

    client.get(READY)
    client.get(READY)

    assert sum("FROM device" in statement for statement in statements) == 2


def test_there_is_no_data_in_it(database_url: str, client: FlaskClient) -> None:
    make_tables(database_url)
    empty = client.get(READY)
    with disposing(writer_engine(database_url)) as writer, writer.begin() as connection:
        connection.execute(insert(device).values(device_id="jetson_1", device_name="Hall"))

    answer = client.get(READY)

    assert answer.data == empty.data
    assert answer.headers == empty.headers
    assert "ETag" not in answer.headers


def test_without_a_database_it_answers_as_the_summary_does(database_url: str, client: FlaskClient) -> None:
    ready, summary = client.get(READY), client.get(SUMMARY)

    assert ready.status_code == 503
    assert ready.content_type == "application/problem+json"
    assert int(ready.headers["Retry-After"]) > 0
    assert ready.data == summary.data
    assert ready.headers == summary.headers


def test_health_goes_on_answering_without_a_database(client: FlaskClient) -> None:
    assert client.get(READY).status_code == 503

    assert client.get("/").status_code == 200


def test_it_does_not_create_the_database(sqlite_url: str) -> None:
    app = create_app(Settings(database_url=sqlite_url))

    app.test_client().get(READY)
    app.extensions["engine"].dispose()

    path = sqlite_path(sqlite_url)
    assert path is not None
    assert not path.exists()


@pytest.mark.parametrize("is_there", [True, False])
def test_head_is_get_without_the_body(is_there: bool, database_url: str, client: FlaskClient) -> None:
    if is_there:
        make_tables(database_url)

    get, head = client.get(READY), client.head(READY)

    assert head.status_code == (200 if is_there else 503)
    assert head.data == b""
    assert head.headers == get.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_every_other_method_is_refused(method: str, client: FlaskClient) -> None:
    assert client.open(READY, method=method).status_code == 405


def test_an_outage_that_both_notice_is_logged_once(
    database_url: str, client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (READY, SUMMARY, READY):
        client.get(path)
    make_tables(database_url)
    for path in (READY, SUMMARY):
        client.get(path)

    start, end = [record.getMessage() for record in caplog.records if record.name.startswith("emotion_api")]
    assert start.startswith("cannot read the database")
    assert end.startswith("the database can be read again")


def test_the_openapi_document_describes_it(client: FlaskClient) -> None:
    document = client.get("/openapi.json").json

    assert document is not None
    responses = document["paths"][READY]["get"]["responses"]
    assert set(responses) == {"200", "400", "405", "414", "500", "503"}
    assert list(responses["503"]["content"]) == ["application/problem+json"]
    assert list(responses["503"]["headers"]) == ["Retry-After"]
    assert document["paths"][SUMMARY]["get"]["responses"]["503"] == responses["503"]


def test_a_locked_table_costs_the_server_no_more_connections_and_prometheus_an_answer(postgresql: PostgreSQL) -> None:
    database_url = postgresql.new_database()
    make_tables(database_url)
    client = create_app(Settings(database_url=database_url)).test_client()
    engine: Engine = client.application.extensions["engine"]
    assert isinstance(engine.pool, QueuePool)
    most = 10 + engine.pool.size()  # SQLAlchemy's overflow is 10
    with (
        disposing(engine),
        disposing(writer_engine(database_url)) as writer,
        disposing(create_engine(database_url, isolation_level="AUTOCOMMIT")) as another,
        another.connect() as onlooker,
        ThreadPoolExecutor(most + 11) as dashboards,
    ):

        def connections() -> int:
            query = "SELECT count(*) - 2 FROM pg_stat_activity WHERE datname = current_database()"
            return int(onlooker.execute(text(query)).scalar_one())

        with writer.begin() as connection:
            connection.execute(text("LOCK TABLE device, person_emotion IN ACCESS EXCLUSIVE MODE"))

            def poll(number: int) -> list[int]:
                """Each dashboard shows another device: requests for one response would share a connection."""
                path = f"{SUMMARY}?device_id=jetson_{number}"
                return [client.application.test_client().get(path).status_code for _ in range(2)]

            polls = [dashboards.submit(poll, number) for number in range(most + 10)]
            wait_until(lambda: connections() == most, what="all connections are in use")
            began = time.monotonic()
            scrape = dashboards.submit(client.get, "/metrics")
            wait_until(scrape.done, what="Prometheus has its answer")
            lasted = time.monotonic() - began
            counts = [connections()]
            while not all(each.done() for each in polls):
                counts.append(connections())
                wait([each for each in polls if not each.done()], timeout=0.1)
        metrics = scrape.result().text

    assert "emotion_api_database_up 0.0" in metrics
    assert max(counts) == most
    assert lasted < 9.5
    assert {status for each in polls for status in each.result()} == {503}
