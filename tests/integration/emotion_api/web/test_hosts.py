"""The hosts that the API answers for: a page of another site must not read it by DNS rebinding."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from flask.testing import FlaskClient

from emotion_api import create_app
from emotion_api.web.hosts import is_allowed
from shared.settings import Settings
from tests.web import DEVICES, HISTORY, SUMMARY

DATA = (SUMMARY, HISTORY, DEVICES, "/dashboard", "/openapi.json")
NAMES = frozenset(("localhost", "dashboard.example.com"))


@contextmanager
def client(url: str, *, hosts: tuple[str, ...] = (), tokens: tuple[str, ...] = ()) -> Iterator[FlaskClient]:
    app = create_app(Settings(database_url=url, allowed_hosts=hosts, api_tokens=tokens))
    yield app.test_client()
    app.extensions["engine"].dispose()


@pytest.mark.parametrize(
    "host",
    [
        *("", "localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1", "127.0.0.1:8000", "192.168.1.5:8000"),
        *("[::1]", "[::1]:8000", "[fe80::1]:8000", "dashboard.example.com", "Dashboard.Example.com:443"),
    ],
)
def test_localhost_addresses_and_listed_names_are_allowed(host: str) -> None:
    assert is_allowed(host, NAMES)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "x.localhost"),
        *(
            "example.com",
            "dashboard.example.com.evil.example",
            "[evil.example]",
            "127.0.0.1@evil.example",
            "0x7f000001",
        ),
    ],
)
def test_any_other_name_is_not(host: str) -> None:
    assert not is_allowed(host, NAMES)


@pytest.mark.parametrize("path", DATA)
def test_another_host_gets_421_with_what_to_do(path: str, sqlite_url: str) -> None:
    with client(sqlite_url) as api:
        response = api.get(path, headers={"Host": "evil.example"})

    assert response.status_code == 421
    assert response.content_type == "application/problem+json"
    assert response.json is not None
    assert response.json["detail"].startswith("This API does not answer for the host 'evil.example'.")
    assert "EMOTION_ALLOWED_HOSTS" in response.json["detail"]


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics"])
def test_health_checks_and_prometheus_may_use_any_name(path: str, sqlite_url: str) -> None:
    with client(sqlite_url) as api:
        assert api.get(path, headers={"Host": "api:8000"}).status_code == 200


def test_a_listed_name_is_answered(sqlite_url: str) -> None:
    with client(sqlite_url, hosts=("api",)) as api:
        assert api.get("/openapi.json", headers={"Host": "api:8000"}).status_code == 200
        assert api.get("/openapi.json", headers={"Host": "evil.example"}).status_code == 421


def test_with_tokens_a_foreign_page_reads_nothing_and_every_host_is_answered(sqlite_url: str) -> None:
    token = "0123456789abcdef"
    with client(sqlite_url, tokens=(token,)) as api:
        assert api.get("/openapi.json", headers={"Host": "evil.example"}).status_code == 200
        assert api.get(SUMMARY, headers={"Host": "evil.example"}).status_code == 401
    with client(sqlite_url, tokens=(token,), hosts=("api",)) as api:  # docker-compose.yml always sets a name
        assert api.get("/openapi.json", headers={"Host": "dashboard.example.com"}).status_code == 200
