"""`python -m benchmarks.plots`: draw the plots of docs/explain/performance.md from its results.json."""

import re
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from benchmarks.report import Measurement, Results, read
from tests.processes import ROOT

FOLDER = ROOT / "docs" / "explain" / "performance"

DEVICES, PEOPLE, LOAD = "devices", "people a batch", "messages/s"

COLORS = {
    "no-op subscriber": "C7",
    "bare SQLite driver": "C1",
    "bare Flask view": "C7",
    "bare subscriber, median": "C7",
    "daemon": "C0",
}
"""Lines that are in several plots have one color; the others take the next one."""

_STORED = re.compile(r"daemon, ([\d,]+) others stored")


def draw(results: Results, folder: Path) -> None:
    """One SVG a question into `folder`, the limits dashed."""
    matplotlib.rcParams |= {"svg.hashsalt": "emotion", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}
    ingest = [each for each in results.measurements if each.benchmark == "ingest"]
    by_devices = [each for each in ingest if each.parameters[PEOPLE] == 5 and not _stored(each)]
    by_people = [each for each in ingest if each.parameters[DEVICES] == 100]
    reading = [each for each in results.measurements if list(each.parameters) == ["people"] and each.unit != "ms"]
    latency = [each for each in results.measurements if each.benchmark == "latency"]

    figure, axes = _new("devices (5 people a batch)", "messages/s", up_scale="log")
    _lines(axes, by_devices, DEVICES)
    _save(figure, axes, folder / "ingest_devices.svg")

    figure, axes = _new("people a batch (100 devices)", "messages/s", up_scale="log")
    _lines(axes, by_people, PEOPLE)
    _save(figure, axes, folder / "ingest_people.svg")

    figure, axes = _new("people in the table already (1,000 devices, 5 people a batch)", "messages/s")
    axes.set_xscale("symlog", linthresh=10_000)
    for each in filter(_stored, ingest):
        _against_stored(axes, each)
    _save(figure, axes, folder / "ingest_stored.svg")

    figure, axes = _new("people of the device", "requests/s")
    _lines(axes, reading, "people")
    _save(figure, axes, folder / "read_people.svg")

    figure, axes = _new("messages/s of other devices", "ms from PUBLISH to the API")
    axes.set_xscale("linear")
    _lines(axes, latency, LOAD)
    _save(figure, axes, folder / "latency_load.svg")


def _stored(measurement: Measurement) -> list[int]:
    """Return the numbers of people in the table, from the names that have one."""
    found = filter(None, map(_STORED.fullmatch, measurement.values))
    return [int(match[1].replace(",", "")) for match in found]


def _against_stored(axes: Axes, measurement: Measurement) -> None:
    names = [name for name in measurement.values if name.startswith("daemon")]
    counts = [0, *_stored(measurement)]
    _line(axes, "daemon", counts, [measurement.values[name] for name in names])
    for name in measurement.values:
        if name not in names:
            _line(axes, name, [counts[0], counts[-1]], [measurement.values[name]] * 2, dashed=True)


def _new(across: str, up: str, *, up_scale: str = "linear") -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.set_xscale("log")
    axes.set_yscale(up_scale)
    return figure, axes


def _lines(axes: Axes, measurements: Sequence[Measurement], parameter: str) -> None:
    """A line for each name, with the range of its rounds."""
    ordered = sorted(measurements, key=lambda each: each.parameters[parameter])
    across = [each.parameters[parameter] for each in ordered]
    for name in ordered[0].values:
        is_limit = name in (ordered[0].limit, "bare SQLite driver")
        _line(axes, name, across, [each.values[name] for each in ordered], dashed=is_limit)


def _line(
    axes: Axes, name: str, across: Sequence[int], values: Sequence[Sequence[float]], *, dashed: bool = False
) -> None:
    style, color = ("o--" if dashed else "o-"), COLORS.get(name)
    (line,) = axes.plot(across, [*map(median, values)], style, color=color, label=name, markersize=3)
    axes.fill_between(across, [*map(min, values)], [*map(max, values)], color=line.get_color(), alpha=0.15)


def _save(figure: Figure, axes: Axes, file: Path) -> None:
    if axes.get_yscale() == "linear":
        axes.set_ylim(bottom=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.legend(fontsize=8)
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    draw(read(FOLDER / "results.json"), FOLDER)


if __name__ == "__main__":
    main()
