"""Print each measurement of a run, as it comes and as a table, and write all as JSON for the plots."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles

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
    """Read the results that `Report.write` wrote. Raises msgspec.ValidationError."""
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


def table(results: Results) -> str:
    """Return everything that was measured as Markdown, with the machine and the command."""
    machine = "\n".join(f"- {name}: {value}" for name, value in results.machine.items())
    listed = "\n".join((*HEAD, *(row for each in results.measurements for row in rows(each))))
    return f"Measured on {results.measured_on} by `{results.command}`:\n\n{machine}\n\n{listed}\n"


class Waits:
    """Waits of several rounds, in milliseconds: without a disturbance, and by the name of each disturbance."""

    def __init__(self, without: str) -> None:
        self._without = without
        self._values: dict[tuple[str, str], list[float]] = {}

    def add(self, when: str, what: str, seconds: Sequence[float]) -> None:
        """Add what a round measured: its median, 99th percentile and longest wait."""
        percentiles = quantiles(seconds, n=100, method="inclusive")
        for name, value in (
            ("median", percentiles[49]),
            ("99th percentile", percentiles[98]),
            ("longest", max(seconds)),
        ):
            self._values.setdefault((when, f"{what}, {name}"), []).append(value * 1e3)

    def report(self, report: Report, benchmark: str, parameters: Mapping[str, int]) -> None:
        """Report the waits, and how many times longer they are with each disturbance than without."""
        values = self._values
        report.add(benchmark, parameters, "ms", {f"{when}: {what}": each for (when, what), each in values.items()})
        ratios = {
            f"{when}: {what}": [value / limit for value, limit in zip(each, values[self._without, what], strict=True)]
            for (when, what), each in values.items()
            if when != self._without
        }
        report.add(benchmark, parameters, f"times {self._without}", ratios)


HEAD = (
    "| benchmark | with | what | median (range) | ratio to the first (range) |",
    "|---|---|---|---|---|",
)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
