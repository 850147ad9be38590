"""What a run measured: printed as it comes and as a table, and written as JSON for the plots."""

import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import msgspec

from benchmarks.machine import describe


class Measurement(msgspec.Struct):
    """One thing measured in several rounds. `values` has, by name, a value a round in `unit`.

    Where the unit is a rate, the first is the limit, which the others are compared with. `parameters` say what it was
    measured with, and tell it from the others of one `benchmark`.
    """

    benchmark: str
    parameters: dict[str, int]
    unit: str
    values: dict[str, list[float]]

    @property
    def limit(self) -> str:
        """The name of what the others are compared with."""
        return next(iter(self.values))

    def ratios(self, name: str) -> list[float]:
        """`name` over the limit, round by round."""
        return [value / limit for value, limit in zip(self.values[name], self.values[self.limit], strict=True)]


class Results(msgspec.Struct):
    """All of a run, and where it ran."""

    measured_on: str
    command: str
    machine: dict[str, str]
    measurements: list[Measurement]


class Report:
    """Takes what is measured, and shows it."""

    def __init__(self) -> None:
        self.results = Results(
            measured_on=datetime.now(UTC).date().isoformat(),
            command=" ".join(["python -m benchmarks", *sys.argv[1:]]),
            machine=describe(),
            measurements=[],
        )
        for name, value in self.results.machine.items():
            print(f"{name}: {value}", flush=True)

    def progress(self, text: str) -> None:
        """One line that says what is going on, on standard error."""
        print(f"… {text}", file=sys.stderr, flush=True)

    def add(
        self, benchmark: str, parameters: Mapping[str, int], unit: str, values: Mapping[str, list[float]]
    ) -> Measurement:
        measurement = Measurement(benchmark, dict(parameters), unit, dict(values))
        self.results.measurements.append(measurement)
        for line in rows(measurement):
            print(line, flush=True)
        return measurement

    def write(self, file: Path) -> None:
        """Everything as JSON."""
        encoded = msgspec.json.format(msgspec.json.encode(self.results), indent=1)
        file.write_bytes(encoded + b"\n")


def read(file: Path) -> Results:
    """What `Report.write` wrote. Raises msgspec.ValidationError."""
    return msgspec.json.decode(file.read_bytes(), type=Results)


def rows(measurement: Measurement) -> Iterator[str]:
    """The measurement as lines of a Markdown table, without its head: see HEAD."""
    where = ", ".join(f"{value:,} {name}" for name, value in measurement.parameters.items())
    for name, values in measurement.values.items():
        spread = f"{_short(median(values))} ({_short(min(values))} to {_short(max(values))})"
        ratio = ""
        if measurement.unit.endswith("/s") and name != measurement.limit:
            ratios = measurement.ratios(name)
            ratio = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        yield f"| {measurement.benchmark} | {where} | {name} | {spread} {measurement.unit} | {ratio} |"


HEAD = (
    "| benchmark | with | what | median (range) | ratio to the first (range) |",
    "|---|---|---|---|---|",
)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
