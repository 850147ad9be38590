"""The live page is served with the right headers; tests/browser run it in a browser."""

import gzip
import re
from collections.abc import Iterator
from html import unescape
from importlib import resources

import pytest
from flask.testing import FlaskClient

from emotion_api.web.pages import DASHBOARD_ASSETS, DASHBOARD_SCRIPT
from shared.settings import Settings
from tests.web import served

PAGE = "/dashboard"
FOLDER = resources.files("emotion_api").joinpath("static/dashboard")


@pytest.fixture
def client(sqlite_url: str) -> Iterator[FlaskClient]:
    """The API; the page needs no database."""
    with served(Settings(database_url=sqlite_url)) as client:
        yield client


def test_the_page_loads_everything_from_this_server_by_relative_addresses(client: FlaskClient) -> None:
    html = client.get(PAGE).text
    loaded = re.findall(r'(?:src|href)="([^"#]+)"', html)

    assert {"dashboard/assets/page.js", "dashboard/assets/dashboard.css", "docs"} <= set(loaded)
    assert all(client.get(f"/{path}").status_code == 200 for path in loaded)


def test_the_page_holds_no_script_and_no_style(client: FlaskClient) -> None:
    html = client.get(PAGE).text

    assert not re.search(r"<script[^>]*>[^<]|<style|\sstyle=|\son\w+=", html)


def test_the_browser_is_told_to_run_and_to_ask_nothing_else(client: FlaskClient) -> None:
    answer = client.get(PAGE)

    assert answer.mimetype == "text/html"
    assert answer.headers.getlist("Content-Security-Policy") == [
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ]


def test_every_module_is_served_and_nothing_else(client: FlaskClient) -> None:
    modules = {file.name for file in FOLDER.iterdir()}

    assert modules == {name for name in DASHBOARD_ASSETS if name.endswith(".js")}
    for name in (DASHBOARD_SCRIPT, *DASHBOARD_ASSETS):
        assert client.get(f"{PAGE}/assets/{name}").status_code == 200
    for name in ("docs.js", "nothing.js", "dashboard.html", "..%2f..%2fdocs.py", ""):
        assert client.get(f"{PAGE}/assets/{name}").status_code == 404


@pytest.mark.parametrize("name", sorted(name for name in DASHBOARD_ASSETS if name.endswith(".js")))
def test_every_import_leads_to_a_module_that_is_served(name: str) -> None:
    imported = re.findall(r'from "\./([^"]+)"', FOLDER.joinpath(name).read_text(encoding="utf-8"))

    assert set(imported) <= set(DASHBOARD_ASSETS)


@pytest.mark.parametrize("path", [PAGE, f"{PAGE}/assets/page.js", f"{PAGE}/assets/dashboard.css"])
def test_what_the_browser_has_is_not_sent_again(path: str, client: FlaskClient) -> None:
    for accepted in ("gzip", "identity"):
        first = client.get(path, headers={"Accept-Encoding": accepted})

        second = client.get(path, headers={"Accept-Encoding": accepted, "If-None-Match": first.headers["ETag"]})

        assert second.status_code == 304
        assert second.data == b""


@pytest.mark.parametrize("path", [PAGE, f"{PAGE}/assets/page.js", f"{PAGE}/assets/dashboard.css", "/openapi.json"])
def test_pages_and_scripts_are_sent_compressed_to_a_client_that_reads_that(path: str, client: FlaskClient) -> None:
    plain = client.get(path)
    compressed = client.get(path, headers={"Accept-Encoding": "br, gzip"})

    assert "Content-Encoding" not in plain.headers
    assert compressed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(compressed.data) == plain.data
    assert compressed.headers["ETag"] != plain.headers["ETag"]
    assert all("Accept-Encoding" in answer.headers["Vary"] for answer in (plain, compressed))
    assert len(compressed.data) < len(plain.data) / 2


def test_the_script_of_the_page_is_small(client: FlaskClient) -> None:
    """On a slow line of 400 kbit/s, 25 kB take half a second."""
    answer = client.get(f"{PAGE}/assets/{DASHBOARD_SCRIPT}", headers={"Accept-Encoding": "gzip"})

    assert len(answer.data) < 25_000


@pytest.mark.parametrize("page", ["dashboard", "docs", "redoc"])
@pytest.mark.parametrize("query", ["", "?device=a%20b&x=%C3%A9"])
def test_with_a_slash_it_leads_to_the_page(page: str, query: str, sqlite_url: str) -> None:
    """By a relative address, below the prefix of a proxy, too; and without a token, as the page itself."""
    with served(Settings(database_url=sqlite_url, api_tokens=("0123456789abcdef",))) as client:
        answer = client.get(f"/{page}/{query}")

    assert answer.status_code == 308
    assert answer.headers["Location"] == f"../{page}{query}"


@pytest.mark.parametrize("port", [1883, 8884])
def test_the_page_knows_the_port_of_the_broker(port: int, sqlite_url: str) -> None:
    with served(Settings(database_url=sqlite_url, mqtt_port=port)) as client:
        assert f'<meta name="mqtt-port" content="{port}">' in client.get(PAGE).text


def test_the_page_knows_the_time_zone_of_the_site(sqlite_url: str) -> None:
    with served(Settings(database_url=sqlite_url, time_zone="America/New_York")) as client:
        assert '<meta name="time-zone" content="America/New_York">' in client.get(PAGE).text


@pytest.mark.parametrize("prefix", ["emotions", "site/a", 'odd "<b>&'])
def test_the_page_knows_where_batches_go(prefix: str, sqlite_url: str) -> None:
    with served(Settings(database_url=sqlite_url, mqtt_topic_prefix=prefix)) as client:
        html = client.get(PAGE).text

    (topic,) = re.findall(r'<meta name="batch-topic" content="([^"]*)">', html)
    assert unescape(topic) == f"{prefix}/{{device_id}}/batch"
    assert "<b>" not in html


def test_pages_of_named_origins_may_frame_the_live_page_alone(sqlite_url: str) -> None:
    origins = ("https://intranet.example.com", "http://screen:8080")
    with served(Settings(database_url=sqlite_url, frame_ancestors=origins)) as client:
        page = client.get(PAGE)
        assert (
            "frame-ancestors https://intranet.example.com http://screen:8080;"
            in page.headers["Content-Security-Policy"]
        )
        assert "X-Frame-Options" not in page.headers
        for path in ("/docs", "/", "/api/devices", "/dashboard/assets/icon.svg"):
            other = client.get(path)
            assert "frame-ancestors 'none'" in other.headers["Content-Security-Policy"]
            assert other.headers["X-Frame-Options"] == "DENY"
