"""The schema as Alembic makes it, on SQLite and PostgreSQL."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, func, insert, inspect, select, text

from emotion_daemon.storage import migrations
from emotion_daemon.storage.migrations import NewerSchemaError, upgrade
from shared.database import writer_engine
from shared.schema import emotion_hour, emotion_minute, metadata
from tests.databases import check_hours, migrated
from tests.postgresql import PostgreSQL


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = writer_engine(database_url)
    yield engine
    engine.dispose()


def columns(engine: Engine, table: str) -> dict[str, str]:
    return {column["name"]: str(column["type"]) for column in inspect(engine).get_columns(table)}


def test_an_upgrade_from_nothing_makes_what_the_schema_says(engine: Engine) -> None:
    upgrade(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        difference = compare_metadata(context, metadata)

    assert difference == []


def test_a_second_upgrade_changes_nothing(engine: Engine) -> None:
    upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO device (device_id) VALUES ('jetson_1')"))
    upgrade(engine)

    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM device")) == 1


def test_of_several_upgrades_at_once_all_succeed(database_url: str) -> None:
    errors: list[BaseException] = []
    barrier = threading.Barrier(4)

    def run() -> None:
        engine = writer_engine(database_url)
        try:
            barrier.wait(15)
            upgrade(engine)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            errors.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []


def test_an_upgrade_that_fails_leaves_nothing_behind(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE rejected_message (id INTEGER)"))  # in the way of the last of the tables
    with pytest.raises(Exception, match="already exists"):
        upgrade(engine)

    assert inspect(engine).get_table_names() == ["rejected_message"]


def downgrade(engine: Engine, revision: str) -> None:
    """Go back to a step; `upgrade` knows only the way forward."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def test_the_hours_are_made_of_the_minutes_that_are_stored(engine: Engine) -> None:
    upgrade(engine)
    values = {"time_happy": 0.1, "time_sad": 2.0, "time_angry": 0.0, "time_neutral": 7.5}
    noon = datetime(2025, 11, 14, 12, tzinfo=UTC)
    with engine.begin() as connection:
        for device_id in ("jetson_1", "jetson_2"):
            minutes = [noon + timedelta(minutes=minute) for minute in (-1, 0, 1, 59, 60, 100_000)]
            rows = [values | {"device_id": device_id, "minute": at, "most_people": at.minute} for at in minutes]
            connection.execute(insert(emotion_minute), rows)
    downgrade(engine, "0006")

    upgrade(engine)

    with engine.connect() as connection:
        check_hours(connection)
        assert connection.scalar(select(func.count()).select_from(emotion_hour)) == 8


def test_a_database_of_a_newer_version_is_refused(engine: Engine) -> None:
    upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(NewerSchemaError):
        upgrade(engine)


def test_person_emotion_has_the_columns_of_the_contract(engine: Engine) -> None:
    upgrade(engine)
    found = columns(engine, "person_emotion")

    sqlite = engine.dialect.name == "sqlite"
    number, stamp = ("FLOAT", "DATETIME") if sqlite else ("DOUBLE PRECISION", "TIMESTAMP")
    assert found == {
        "id": "INTEGER" if sqlite else "BIGINT",
        "device_id": "TEXT",
        "person_id": "TEXT",
        "time_happy": number,
        "time_sad": number,
        "time_angry": number,
        "time_neutral": number,
        "last_seen": stamp,
        "active_at": stamp,
        "emotion_now": "TEXT",
    }


def test_device_has_the_columns_of_the_contract(engine: Engine) -> None:
    upgrade(engine)
    found = columns(engine, "device")

    stamp = "DATETIME" if engine.dialect.name == "sqlite" else "TIMESTAMP"
    assert found == {"device_id": "TEXT", "device_name": "TEXT", "updated_at": stamp}
    assert inspect(engine).get_pk_constraint("device")["constrained_columns"] == ["device_id"]


def test_a_person_is_unique_per_device_and_devices_are_indexed(engine: Engine) -> None:
    upgrade(engine)
    inspector = inspect(engine)

    unique = inspector.get_unique_constraints("person_emotion")
    indexed = [index["column_names"] for index in inspector.get_indexes("person_emotion") if not index["unique"]]
    assert [constraint["column_names"] for constraint in unique] == [["device_id", "person_id"]]
    assert indexed == [["device_id"]]
    assert inspector.get_pk_constraint("person_emotion")["constrained_columns"] == ["id"]


def test_a_person_may_never_have_been_active_and_all_else_is_required(engine: Engine) -> None:
    upgrade(engine)

    nullable = [column["name"] for column in inspect(engine).get_columns("person_emotion") if column["nullable"]]
    assert nullable == ["active_at", "emotion_now"]


def test_sqlite_never_gives_an_id_twice(sqlite_url: str) -> None:
    engine = writer_engine(sqlite_url)
    upgrade(engine)
    with engine.connect() as connection:
        statements = connection.scalars(text("SELECT sql FROM sqlite_master WHERE type = 'table'")).all()
        tables = connection.scalars(text("SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'")).all()
    engine.dispose()

    assert set(tables) == {"person_emotion", "rejected_message"}
    assert any("INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT" in statement for statement in statements)


def test_postgresql_leaves_room_for_the_next_version_of_a_row(postgresql: PostgreSQL) -> None:
    with migrated(postgresql.new_database()) as engine, engine.connect() as connection:
        query = text("SELECT relname FROM pg_class WHERE reloptions::text LIKE '%fillfactor%'")
        tables = set(connection.scalars(query))

    assert tables == {"person_emotion", "device", "device_state", "emotion_minute", "emotion_hour"}
