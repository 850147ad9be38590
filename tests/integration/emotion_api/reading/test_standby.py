"""An API that reads a PostgreSQL standby: it shows what the standby has replayed, and says how old that is."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from emotion_api.web.views import STANDBY_LAG
from emotion_daemon.rules.fold import fold
from emotion_daemon.storage.store import Store
from shared.batch import Batch, Cumulative
from shared.settings import Settings
from tests.databases import migrated
from tests.postgresql import PostgreSQL, postgresql_server, standby_of
from tests.waiting import wait_until
from tests.web import served

SUMMARY = "/api/dashboard/summary?device_id=jetson_1"
METRIC = "emotion_api_standby_lag_seconds"


@pytest.fixture
def primary() -> Iterator[PostgreSQL]:
    """A server of its own: a standby follows all databases, and those of other tests are many."""
    with postgresql_server() as server:
        yield server


def commit(store: Store, happy: float) -> None:
    now = datetime.now(UTC)
    batches = [Batch("jetson_1", now, {"anna": Cumulative(happy)}, now)]
    with store.transaction() as transaction:
        transaction.write(fold(batches, transaction.read_state(batches)))


def happy(client: FlaskClient) -> float:
    answer = client.get(SUMMARY)
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    total: float = answer.json["emotion_totals"]["happy"]
    return total


def wait_for(client: FlaskClient, seconds: float) -> None:
    wait_until(lambda: happy(client) == seconds, what="the standby has the commit")


def lag_metric(client: FlaskClient) -> list[float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return [sample.value for family in families if family.name == METRIC for sample in family.samples]


def test_a_commit_shows_once_it_is_replayed_and_the_lag_says_how_old_the_data_are(primary: PostgreSQL) -> None:
    url = primary.new_database()
    with migrated(url) as engine, standby_of(primary) as standby:
        store = Store(engine)
        commit(store, 1.0)
        with served(Settings(database_url=primary.url_on(standby, url))) as client:
            for turn in (1.0, 2.0, 3.0):
                commit(store, turn)
                wait_for(client, turn)

            lag = float(client.get(SUMMARY).headers[STANDBY_LAG])
            later = wait_until(lambda: float(client.get(SUMMARY).headers[STANDBY_LAG]) > lag, what="the lag grows")
            assert later
            assert lag_metric(client)[0] > lag

            standby.promote()
            wait_until(lambda: STANDBY_LAG not in client.get(SUMMARY).headers, what="the standby is a primary now")
            assert (happy(client), lag_metric(client)) == (3.0, [])


def test_a_primary_has_no_lag(primary: PostgreSQL) -> None:
    url = primary.new_database()
    with migrated(url) as engine, served(Settings(database_url=url)) as client:
        commit(Store(engine), 1.0)

        assert STANDBY_LAG not in client.get(SUMMARY).headers
        assert lag_metric(client) == []
