"""The benchmarks run, check what they measured, and docs/explain/performance.md shows every plot."""

import re
import subprocess
import sys
from pathlib import Path

from benchmarks.plots import FOLDER, draw
from benchmarks.report import Results, read
from tests.processes import ROOT, without_settings


def run(file: Path, arguments: str) -> tuple[Results, str]:
    """Run `python -m benchmarks …` and return its results and its output."""
    command = [sys.executable, "-m", "benchmarks", *arguments.split(), "--json", str(file)]
    done = subprocess.run(
        command, cwd=ROOT, env=without_settings(), capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    return read(file), done.stdout


def test_ingest_is_measured_beside_its_limits(tmp_path: Path) -> None:
    results, printed = run(tmp_path / "ingest.json", "ingest --messages 600 --rounds 2 --stored 1000")

    (measurement,) = results.measurements
    assert list(measurement.values) == [
        "no-op subscriber",
        "bare SQLite driver",
        "daemon",
        "daemon, 1,000 others stored",
    ]
    assert all(len(values) == 2 and min(values) > 0 for values in measurement.values.values())
    assert "processor" in results.machine
    assert "| ingest | 1,000 devices, 5 people a batch | daemon |" in printed


def test_reading_is_measured_beside_a_bare_view(tmp_path: Path) -> None:
    results, _ = run(tmp_path / "read.json", "read --seconds 1 --rounds 1 --many 3000 --commits 2")

    by_people = {each.parameters["people"]: each for each in results.measurements if each.unit == "requests/s"}
    assert set(by_people) == {5, 1_000}
    assert by_people[1_000].limit == "bare Flask view"
    assert results.measurements[-1].parameters == {"people": 3_000}
    assert all(min(values) > 0 for each in results.measurements for values in each.values.values())


def test_postgresql_is_measured_beside_sqlite(tmp_path: Path) -> None:
    results, _ = run(tmp_path / "ingest.json", "ingest --messages 300 --devices 20 --rounds 1 --database postgresql")

    rates, costs = results.measurements
    assert list(rates.values) == ["daemon on SQLite", "daemon on PostgreSQL"]
    assert list(costs.values) == ["daemon on SQLite", "daemon on PostgreSQL", "PostgreSQL's server"]
    assert all(min(values) > 0 for values in rates.values.values())


def test_an_overview_is_measured(tmp_path: Path) -> None:
    results, _ = run(tmp_path / "overview.json", "overview --devices 3 --days 2 --rounds 2")

    (measurement,) = results.measurements
    assert list(measurement.values) == ["time", "processor time"]
    assert all(min(values) > 0 for values in measurement.values.values())


def test_several_daemons_are_measured_beside_one(tmp_path: Path) -> None:
    results, _ = run(tmp_path / "shards.json", "shards --messages 400 --devices 20 --rounds 1")

    rates, costs = results.measurements
    assert list(rates.values) == ["1 daemon", "2 daemons", "4 daemons"]
    assert all(min(values) > 0 for values in (*rates.values.values(), *costs.values.values()))


def test_the_time_of_a_failover_is_measured(tmp_path: Path) -> None:
    results, _ = run(tmp_path / "failover.json", "failover --rate 50 --devices 20 --rounds 1")

    (waits,) = results.measurements
    assert waits.values["from the kill"] > waits.values["from the promotion"] > [0.0]


def test_deleting_is_measured_beside_the_same_load_without(tmp_path: Path) -> None:
    arguments = "prune --stored 600 --minutes 2000 --devices 20 --seconds 1 --rounds 1"
    results, _ = run(tmp_path / "prune.json", arguments)

    waits, whole = results.measurements
    assert [name.partition(",")[0] for name in waits.values] == ["nothing to delete"] * 3 + ["while deleting"] * 3
    assert all(min(values) > 0 for values in (*waits.values.values(), *whole.values.values()))


def test_a_flood_is_measured_beside_the_same_system_without(tmp_path: Path) -> None:
    results, _ = run(tmp_path / "flood.json", "flood --rate 100 --seconds 3")

    waits, ratios, costs = results.measurements
    assert {name.partition(":")[0] for name in waits.values} == {"no flood", "QoS 1", "QoS 0"}
    assert {name.partition(":")[0] for name in ratios.values} == {"QoS 1", "QoS 0"}
    assert all(min(values) > 0 for values in (*waits.values.values(), *ratios.values.values()))
    assert costs.values["QoS 1: messages/s"][0] > 0
    assert costs.values["QoS 1: MB of the database"][0] < 20


def test_long_histories_are_measured_beside_the_same_system_without(tmp_path: Path) -> None:
    results, _ = run(tmp_path / "histories.json", "histories --clients 3 --points 3000 --seconds 2")

    waits, ratios, answers = results.measurements
    assert {name.partition(":")[0] for name in waits.values} == {"alone", "with histories"}
    assert all(min(values) > 0 for values in (*waits.values.values(), *ratios.values.values()))
    assert answers.values["histories built"][0] > 0


def test_the_document_shows_every_plot(tmp_path: Path) -> None:
    document = (FOLDER.parent / "performance.md").read_text()

    draw(read(FOLDER / "results.json"), tmp_path)

    shown = set(re.findall(r"\(performance/(\w+\.svg)\)", document))
    assert shown == {file.name for file in tmp_path.glob("*.svg")} == {file.name for file in FOLDER.glob("*.svg")}


def test_the_steps_of_the_daemon_are_measured(tmp_path: Path) -> None:
    results, _ = run(tmp_path / "stages.json", "stages --messages 600 --devices 20 --rounds 1")

    (costs,) = results.measurements
    assert costs.values["all"][0] > costs.values["fold"][0] > 0


def test_the_start_is_measured_with_and_without_data(tmp_path: Path) -> None:
    results, _ = run(tmp_path / "start.json", "start --stored 1000 --minutes 1000 --rounds 1")

    (took,) = results.measurements
    assert list(took.values) == ["empty", "full"]
    assert all(min(values) > 0 for values in took.values.values())
