"""The operator's commands on a real database: `python -m emotion_admin`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert

from emotion_admin.__main__ import main
from emotion_admin.snippet import Address, snippet
from emotion_api.reading.reader import SummaryReader
from emotion_api.reading.source import Source
from emotion_api.summary import SummaryRequest
from shared.database import reader_engine, sqlite_path
from shared.schema import device
from tests.databases import disposing, migrated
from tests.faults.history import START
from tests.processes import ROOT

Run = Callable[..., int]


@pytest.fixture
def run(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("EMOTION_DATABASE_URL", database_url)
    return lambda *arguments: main(["--secrets", str(tmp_path / "secrets"), *arguments])


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    with migrated(database_url) as engine:
        yield engine


def shown_name(database_url: str, device_id: str) -> str:
    """Return the name on the dashboard, with a setting that says otherwise."""
    with disposing(reader_engine(database_url)) as engine:
        source = Source(engine, file=sqlite_path(database_url))
        answer = SummaryReader(source, device_names={device_id: "from the setting"}).read(SummaryRequest(device_id))
    return answer.body.decode().partition('"device_name":"')[2].partition('"')[0]


def test_a_device_is_added_with_a_name_that_wins_over_the_setting(
    run: Run, engine: Engine, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown_name(database_url, "jetson_1") == "from the setting"

    assert run("device", "add", "jetson_1", "--name", "Entrance", "--host", "broker.local", "--port", "1884") == 0

    printed = capsys.readouterr().out
    assert 'HOST = "broker.local"\n  PORT = 1884\n' in printed
    assert "emotions/jetson_1/batch" in printed
    assert shown_name(database_url, "jetson_1") == "Entrance"


def test_a_broker_of_ipv6_has_no_brackets_for_a_device(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("device", "add", "jetson_1", "--host", "[2001:db8::5]") == 0

    assert 'HOST = "2001:db8::5"\n' in capsys.readouterr().out


@pytest.mark.parametrize("host", ["", "broker:1883", "mqtt://broker", "a b"])
def test_a_host_that_no_device_could_reach_is_refused(host: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("device", "add", "jetson_1", "--host", host)

    assert f"{host!r} is not a name or an address, without scheme and port" in capsys.readouterr().err


def test_a_name_can_be_changed_and_what_the_device_sent_stays(run: Run, engine: Engine, database_url: str) -> None:
    with engine.begin() as connection:
        connection.execute(insert(device), {"device_id": "jetson_1", "updated_at": START})

    assert run("device", "rename", "jetson_1", "Back door") == 0

    assert shown_name(database_url, "jetson_1") == "Back door"
    with engine.connect() as connection:
        assert connection.execute(device.select()).one()._mapping["updated_at"] == START


def test_the_list_has_everybody(run: Run, engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    with engine.begin() as connection:
        connection.execute(insert(device), {"device_id": "old", "updated_at": START})
    run("secrets")
    run("device", "add", "new")
    run("device", "rename", "named", "Hall")
    capsys.readouterr()

    assert run("device", "list") == 0

    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        ["named", "no", "login", "no", "batch", "yet", "Hall"],
        ["new", "login", "no", "batch", "yet"],
        ["old", "no", "login", f"{START:%Y-%m-%dT%H:%M:%SZ}"],
    ]


@pytest.mark.parametrize("name", ["", " ", "x" * 201, "two\nlines"])
def test_a_name_that_cannot_be_shown_is_refused(
    run: Run, engine: Engine, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("device", "add", "jetson_1", "--name", name) == 1

    assert "a name has 1 to 200 printable characters" in capsys.readouterr().err
    assert not (tmp_path / "secrets" / "broker" / "dynamic-security.json").exists()


def test_without_a_schema_there_is_a_sentence(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("device", "rename", "jetson_1", "Hall") == 1

    error = capsys.readouterr().err
    assert "the daemon" in error
    assert "once" in error


def test_a_device_that_is_there_keeps_its_name_where_adding_it_fails(
    run: Run, engine: Engine, database_url: str
) -> None:
    run("device", "add", "jetson_1", "--name", "Entrance")

    assert run("device", "add", "jetson_1", "--name", "Other") == 1

    assert shown_name(database_url, "jetson_1") == "Entrance"


def test_a_wrong_setting_keeps_nobody_from_making_the_secrets(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOTION_LOG_LEVEL", "LOUD")

    assert run("secrets") == 0
    assert run("device", "list") == 2


@pytest.mark.parametrize("action", ["add", "remove"])
def test_tokens_that_would_not_count_are_refused(
    run: Run, action: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EMOTION_API_TOKEN", "a token from the settings")

    assert run("token", action, "dashboard") == 1

    assert "remove that setting first" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_a_sentence(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secrets").write_text("a file where the folder has to be")

    assert run("secrets") == 1

    assert "secrets" in capsys.readouterr().err


def test_a_printed_batch_gets_the_time_at_which_it_is_published() -> None:
    """A line that is pasted an hour later must not earn a warning about the device's clock."""
    shown = snippet("jetson_1", "secret", Address("localhost", 1883, tls=False))
    run = (ROOT / "scripts" / "run").read_text(encoding="utf-8")

    for text in (shown, run.replace("\\$", "$")):
        (line,) = [line for line in text.splitlines() if '"timestamp"' in line]
        assert '"timestamp": "\'$(date -u +%FT%TZ)\'"' in line
