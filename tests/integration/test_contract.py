"""`/asyncapi.json` and `/schemas/batch.json` as whoever writes a device gets them."""

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from shared.batch import Topics
from shared.contract import asyncapi, batch_schema
from shared.settings import Settings
from tests.web import served

ASYNCAPI, SCHEMA = "/asyncapi.json", "/schemas/batch.json"
DASHBOARD = "http://localhost:3000"


@pytest.fixture
def client(sqlite_url: str) -> Iterator[FlaskClient]:
    """An API whose database is not there yet, and which asks for a token."""
    with served(
        Settings(database_url=sqlite_url, api_tokens=("0123456789abcdef",), mqtt_topic_prefix="site/e", mqtt_port=1884)
    ) as client:
        yield client


def test_the_asyncapi_document_is_served_with_the_settings(client: FlaskClient) -> None:
    answer = client.get(ASYNCAPI)

    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.json == asyncapi(Topics("site/e"), port=1884, tls=False)


def test_the_schema_is_served_as_a_schema(client: FlaskClient) -> None:
    answer = client.get(SCHEMA)

    assert (answer.status_code, answer.content_type) == (200, "application/schema+json")
    assert answer.get_json(force=True) == batch_schema()


@pytest.mark.parametrize("path", [ASYNCAPI, SCHEMA])
def test_what_has_not_changed_is_not_sent_again(path: str, client: FlaskClient) -> None:
    etag = client.get(path).headers["ETag"]
    answer = client.get(path, headers={"If-None-Match": etag})

    assert (answer.status_code, answer.data) == (304, b"")


@pytest.mark.parametrize("path", [ASYNCAPI, SCHEMA])
def test_a_configured_origin_may_read_them(path: str, client: FlaskClient) -> None:
    answer = client.get(path, headers={"Origin": DASHBOARD})

    assert answer.headers["Access-Control-Allow-Origin"] == DASHBOARD
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", [ASYNCAPI, SCHEMA])
def test_they_are_for_reading(path: str, client: FlaskClient) -> None:
    assert client.post(path, headers={"Authorization": "Bearer 0123456789abcdef"}).status_code == 405


def test_the_openapi_document_leads_to_both(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()

    assert "(asyncapi.json)" in document["info"]["description"]
    assert "(schemas/batch.json)" in document["info"]["description"]
