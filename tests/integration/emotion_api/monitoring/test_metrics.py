"""GET /metrics: every request is counted once, whatever becomes of its worker, and nothing of the data is told."""

import re
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client import values
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert

from emotion_api.monitoring.metrics import CONTENT_TYPE_LATEST, FOLDER, WORKER, Metrics
from shared.database import writer_engine
from shared.schema import device, device_state, person_emotion
from shared.settings import Settings
from tests.databases import disposing, make_tables
from tests.waiting import wait_until
from tests.web import DEVICES, HISTORY, SUMMARY, WORKERS, Api, served

METRICS = "/metrics"
SECONDS = "emotion_api_request_duration_seconds"
TOKEN = "dashboard-0123456789"


@pytest.fixture
def client(sqlite_url: str) -> Iterator[FlaskClient]:
    make_tables(sqlite_url)
    yield from serving(sqlite_url)


def serving(database_url: str, tokens: tuple[str, ...] = ()) -> Iterator[FlaskClient]:
    with served(Settings(database_url=database_url, api_tokens=tokens)) as client:
        yield client


def samples(text: str, name: str) -> dict[tuple[str, ...], float]:
    """The values of that name by the values of their labels, in alphabetical order of the labels."""
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {
        tuple(sample.labels[label] for label in sorted(sample.labels)): sample.value
        for sample in found
        if sample.name == name
    }


def requests(text: str) -> dict[tuple[str, ...], float]:
    """Return the number of requests by status and view, without those for the metrics."""
    return {pair: number for pair, number in samples(text, f"{SECONDS}_count").items() if pair[1] != "metrics"}


# What is counted


def test_every_answer_is_counted_under_its_view_and_status(client: FlaskClient) -> None:
    etag = client.get(SUMMARY).headers["ETag"]
    client.get(SUMMARY, headers={"If-None-Match": etag})
    client.get(f"{SUMMARY}?device_id=not%20valid")
    client.head(SUMMARY)
    client.options(SUMMARY)
    client.post(SUMMARY)
    client.get("/nothing")
    client.get("/docs/")
    for path in ("/", "/healthz", "/readyz", HISTORY, DEVICES, "/docs", "/dashboard", "/docs/assets/docs.js"):
        client.get(path)

    found = requests(client.get(METRICS).text)

    assert found == {
        ("200", "summary"): 3,
        ("304", "summary"): 1,
        ("400", "summary"): 1,
        ("405", "none"): 1,
        ("404", "none"): 1,
        ("308", "page_with_slash"): 1,
        **{("200", view): 1 for view in ("health", "healthz", "ready", "history", "devices")},
        **{("200", view): 1 for view in ("docs", "dashboard", "docs_asset")},
    }


def test_a_request_without_a_valid_token_is_counted(sqlite_url: str) -> None:
    make_tables(sqlite_url)
    for client in serving(sqlite_url, (TOKEN,)):
        client.get(SUMMARY)
        client.get(SUMMARY, headers={"Authorization": f"Bearer {TOKEN}"})
        client.get("/nothing")

        assert requests(client.get(METRICS).text) == {
            ("200", "summary"): 1,
            ("401", "summary"): 1,
            ("401", "none"): 1,
        }


def test_an_unexpected_error_is_counted(client: FlaskClient) -> None:
    def fail() -> None:
        raise RuntimeError("unexpected")

    app: Flask = client.application
    app.view_functions["summary"] = fail  # type: ignore[assignment]

    assert client.get(SUMMARY).status_code == 500
    assert requests(client.get(METRICS).text) == {("500", "summary"): 1}


def test_without_a_database_the_answers_are_counted_too(sqlite_url: str) -> None:
    for client in serving(sqlite_url):
        client.get(SUMMARY)
        client.get("/readyz")

        assert requests(client.get(METRICS).text) == {("503", "summary"): 1, ("503", "ready"): 1}


def test_a_request_is_in_the_buckets_of_its_time() -> None:
    metrics = Metrics()
    for seconds in (0.001, 0.002, 0.03, 7.0):
        metrics.observe(None, "404", seconds)

    text = metrics.exposition(database_is_up=True).decode()
    assert samples(text, f"{SECONDS}_bucket") == {
        **{("0.001", "404", "none"): 1, ("0.005", "404", "none"): 2, ("0.025", "404", "none"): 2},
        **{("0.1", "404", "none"): 3, ("0.25", "404", "none"): 3, ("1.0", "404", "none"): 3},
        **{("5.0", "404", "none"): 3, ("+Inf", "404", "none"): 4},
    }
    assert samples(text, f"{SECONDS}_count") == {("404", "none"): 4}
    assert samples(text, f"{SECONDS}_sum") == {("404", "none"): pytest.approx(7.033)}


def test_applications_count_each_for_itself(client: FlaskClient, sqlite_url: str) -> None:
    client.get("/")

    for other in serving(sqlite_url):
        assert requests(other.get(METRICS).text) == {}


# The database


def test_it_tells_at_once_whether_the_database_can_be_read(database_url: str) -> None:
    for client in serving(database_url):
        before = client.get(METRICS)
        make_tables(database_url)
        after = client.get(METRICS)

        assert (before.status_code, after.status_code) == (200, 200)
        assert samples(before.text, "emotion_api_database_up") == {(): 0}
        assert samples(after.text, "emotion_api_database_up") == {(): 1}


# The answer


def test_it_is_the_text_that_prometheus_reads(client: FlaskClient) -> None:
    answer = client.get(METRICS)

    assert answer.content_type == CONTENT_TYPE_LATEST
    assert answer.content_type.startswith("text/plain; version=")
    assert "ETag" not in answer.headers
    types = {family.name: family.type for family in text_string_to_metric_families(answer.text)}
    assert types == {SECONDS: "histogram", "emotion_api_database_up": "gauge"}


@pytest.mark.parametrize("path", [METRICS, "/healthz"])
def test_it_is_open_and_answers_get_head_and_options_only(path: str, sqlite_url: str) -> None:
    for client in serving(sqlite_url, (TOKEN,)):
        get, head = client.get(path), client.head(path)

        assert (get.status_code, head.status_code, client.options(path).status_code) == (200, 200, 200)
        assert (head.data, head.content_type) == (b"", get.content_type)
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert client.open(path, method=method).status_code == 401
            authorized = client.open(path, method=method, headers={"Authorization": f"Bearer {TOKEN}"})
            assert authorized.status_code == 405


def test_healthz_answers_as_the_root_does(client: FlaskClient) -> None:
    root, healthz = client.get("/"), client.get("/healthz")

    assert (healthz.status_code, healthz.data, healthz.headers) == (200, root.data, root.headers)


def test_there_is_nothing_of_the_data_or_of_a_request_in_it(sqlite_url: str) -> None:
    make_tables(sqlite_url)
    stamp = datetime(2025, 11, 14, 12, 30, tzinfo=UTC)
    seconds = {"time_happy": 471147114711.5, "time_sad": 0.0, "time_angry": 0.0, "time_neutral": 0.0}
    with disposing(writer_engine(sqlite_url)) as writer, writer.begin() as connection:
        connection.execute(insert(device).values(device_id="secret_1", device_name="secret hall", updated_at=stamp))
        connection.execute(insert(device_state).values(device_id="secret_1", received_at=stamp))
        person = {"device_id": "secret_1", "person_id": "secret_2", "last_seen": stamp}
        connection.execute(insert(person_emotion).values(person | seconds))
    for client in serving(sqlite_url, (TOKEN,)):
        authorized = {"Authorization": f"Bearer {TOKEN}", "User-Agent": "secret_3", "Origin": "http://secret_4"}
        paths = [f"{SUMMARY}?device_id=secret_1", f"{HISTORY}?device_id=secret_1", DEVICES, "/secret_5", "/?secret_6=7"]
        for path in (*paths, "/docs/assets/secret_8", "/dashboard/assets/secret_9"):
            client.get(path, headers=authorized)
            client.open(path, method="SECRET", headers=authorized)

        text = client.get(f"{METRICS}?secret=1", headers=authorized).text

        views = {*client.application.view_functions, "none"}
        pairs = set(requests(text))
        assert "secret" not in text.lower()
        assert TOKEN not in text
        assert "471147114711" not in text
        assert ("200", "summary") in pairs
        assert {view for _, view in pairs} <= views
        assert all(re.fullmatch(r"[1-5]\d\d", status) for status, _ in pairs)
        labels = {name for family in text_string_to_metric_families(text) for s in family.samples for name in s.labels}
        assert labels == {"view", "status", "le"}


def test_the_openapi_document_describes_it_as_text(client: FlaskClient) -> None:
    document = client.get("/openapi.json").json

    assert document is not None
    responses = document["paths"][METRICS]["get"]["responses"]
    assert set(responses) == {"200", "400", "405", "414", "500"}
    assert list(responses["200"]["content"]) == ["text/plain"]


# The files of the workers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the workers' counts."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    return folder


@pytest.fixture
def as_worker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Metrics]:
    """The metrics of a worker of that number, as gunicorn.conf.py starts it."""
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)  # each worker sets it in its own process
    monkeypatch.setenv(FOLDER, str(folder))

    def start(number: int) -> Metrics:
        monkeypatch.setenv(WORKER, str(number))
        return Metrics()

    return start


def counted(metrics: Metrics) -> dict[tuple[str, ...], float]:
    return requests(metrics.exposition(database_is_up=True).decode())


def test_each_worker_tells_the_requests_of_all(as_worker: Callable[[int], Metrics]) -> None:
    first, second = as_worker(0), as_worker(1)
    first.observe("summary", "200", 0.002)
    second.observe("summary", "200", 0.2)
    second.observe(None, "404", 0.001)

    assert counted(first) == counted(second) == {("200", "summary"): 2, ("404", "none"): 1}
    text = first.exposition(database_is_up=True).decode()
    assert samples(text, f"{SECONDS}_sum")["200", "summary"] == pytest.approx(0.202)
    assert samples(text, f"{SECONDS}_bucket")["0.005", "200", "summary"] == 1
    assert {family.name: family.type for family in text_string_to_metric_families(text)} == {
        SECONDS: "histogram",
        "emotion_api_database_up": "gauge",
    }


def test_a_new_worker_continues_the_counts_of_its_number(as_worker: Callable[[int], Metrics], folder: Path) -> None:
    as_worker(0).observe("summary", "200", 0.002)
    as_worker(0).observe("summary", "304", 0.002)
    last = as_worker(0)
    last.observe("summary", "200", 0.002)

    assert counted(last) == {("200", "summary"): 2, ("304", "summary"): 1}
    assert len(list(folder.iterdir())) == 1


# Under gunicorn


def send(api: Api, number: int) -> None:
    """Requests on connections of their own, which spread over the workers."""
    for _ in range(number):
        assert api.ask("/healthz").status == 200


def told(api: Api) -> list[float]:
    """Return the counts in several answers of either worker; the same number counts once."""
    texts = (api.ask(METRICS).body.decode() for _ in range(6))
    return sorted({requests(text).get(("200", "healthz"), 0.0) for text in texts})


def wait_for_workers(api: Api, started: int) -> None:
    """Until so many have been started in all, and those that were to end have ended."""
    wait_until(lambda: api.log().count("Booting worker") == started, what="new workers")
    wait_until(lambda: len(api.workers()) == WORKERS, what="the old workers have ended")


def test_workers_count_together_whatever_becomes_of_them(sqlite_url: str, tmp_path: Path) -> None:
    make_tables(sqlite_url)
    folder = tmp_path / "workers"
    folder.mkdir()

    with Api(sqlite_url, tmp_path / "log", GUNICORN_CMD_ARGS=f"--worker-tmp-dir={folder}") as api:
        send(api, 20)
        counted = [told(api)]
        for worker in api.workers():
            worker.kill()
        wait_for_workers(api, 2 * WORKERS)
        send(api, 5)
        counted.append(told(api))
        for reload in (1, 2):
            api.signal(signal.SIGHUP)
            wait_for_workers(api, (2 + reload) * WORKERS)
            send(api, 5)
            counted.append(told(api))
        (kept,) = folder.glob("emotion-api-metrics-*")
        files = [file.name for file in kept.iterdir()]
        code = api.stop()

    assert counted == [[20], [25], [30], [35]]
    assert WORKERS <= len(files) <= 2 * WORKERS, files  # a reload starts the new ones while the old ones still run
    assert code == 0
    assert not list(folder.iterdir())
