"""The benchmarks run, check what they measured, and what docs/PERFORMANCE.md shows is what was measured."""

import re
import subprocess
import sys
from pathlib import Path

from benchmarks.plots import DOCUMENT, FOLDER, draw, with_table
from benchmarks.report import Results, read
from tests.processes import ROOT, without_settings


def run(file: Path, arguments: str) -> tuple[Results, str]:
    """What `python -m benchmarks …` measured, and what it printed."""
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


def test_deleting_is_measured_beside_the_same_load_without(tmp_path: Path) -> None:
    arguments = "prune --stored 600 --minutes 2000 --devices 20 --seconds 1 --rounds 1"
    results, _ = run(tmp_path / "prune.json", arguments)

    waits, whole = results.measurements
    assert [name.partition(",")[0] for name in waits.values] == ["nothing to delete"] * 3 + ["while deleting"] * 3
    assert all(min(values) > 0 for values in (*waits.values.values(), *whole.values.values()))


def test_the_document_has_the_table_and_the_plots_of_what_was_measured(tmp_path: Path) -> None:
    document, results = DOCUMENT.read_text(), read(FOLDER / "results.json")

    draw(results, tmp_path)

    assert with_table(document, results) == document
    shown = set(re.findall(r"\(performance/(\w+\.svg)\)", document))
    assert shown == {file.name for file in tmp_path.glob("*.svg")} == {file.name for file in FOLDER.glob("*.svg")}
