"""Rounds, seeds, and the table at the end of a run. The options stand in tests/conftest.py."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

FULL_TIMEOUT_SECONDS = 5_400

Rounds = Callable[..., Iterator[random.Random]]
"""`rounds(3, full=200)` yields a source of chance for each round: 3 of them, or 200 with --full."""


@pytest.fixture
def rounds(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Rounds:
    """Return the rounds of a test, each with its own random numbers.

    Each round is printed as it begins; pytest shows what was printed where a test fails.
    """
    full: bool = request.config.getoption("--full")
    seed: int = request.config.getoption("--seed")

    def count(default: int, *, full_count: int) -> Iterator[random.Random]:
        number = full_count if full else default
        for turn in range(1, number + 1):
            print(f"--- round {turn} of {number}, --seed {seed}")
            yield random.Random(f"{seed} {request.node.name} {turn}")
        record_property("rounds", number)

    def rounds(default: int, *, full: int) -> Iterator[random.Random]:
        return count(default, full_count=full)

    return rounds


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The full counts take their time."""
    if config.getoption("--full"):
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.timeout(FULL_TIMEOUT_SECONDS), append=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print a line for each test that counts rounds; docs/explain/faults.md has those of a full run."""
    counted = [
        (report, dict(report.user_properties)["rounds"])
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        if report.when == "call" and "rounds" in dict(report.user_properties)
    ]
    if counted:
        terminalreporter.section(f"faults, --seed {config.getoption('--seed')}")
    for report, rounds in sorted(counted, key=lambda entry: entry[0].nodeid):
        name = report.nodeid.removeprefix("tests/faults/")
        terminalreporter.write_line(f"{rounds:>6}  {report.duration:>7.1f} s  {report.outcome}  {name}")
