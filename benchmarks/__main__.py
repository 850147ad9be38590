"""`python -m benchmarks NAME`, each with --help; and `benchmarks.soak`. COMMANDS has the names."""

import argparse
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    failover,
    flood,
    follow,
    histories,
    ingest,
    latency,
    memory,
    overview,
    prune,
    read,
    scale,
    shards,
    stages,
    start,
    years,
)
from benchmarks.report import HEAD, Report, rows

RATES = (100, 500, 1_000, 2_000)


DATABASES = ("sqlite", "postgresql")


def _ingest(report: Report, *, stored: int, database: str, **options: int) -> None:
    if database == "postgresql":
        ingest.compare(report, **options)
    else:
        ingest.run(report, **options, stored=sorted({0, stored}))


def _read(report: Report, *, database: str, seconds: int, rounds: int, many: int, commits: int) -> None:
    if database == "postgresql":
        read.compare(report, seconds=seconds, rounds=rounds)
    else:
        read.run(report, seconds=seconds, rounds=rounds, many=many, commits=commits)


def _all(report: Report, *, messages: int, rounds: int, seconds: int, probes: int) -> None:
    scale.run(report, messages=messages, rounds=rounds, seconds=seconds)
    for rate in RATES:
        latency.run(report, rate=rate, devices=1_000, people=5, probes=probes, rounds=rounds)
    memory.run(report, messages=200_000, devices=1_000, people=5, rounds=rounds)


COMMANDS: dict[str, tuple[Callable[..., None], str, dict[str, int | str]]] = {
    "ingest": (
        _ingest,
        "a waiting backlog, against a subscriber that does nothing and the bare driver",
        {"messages": 30_000, "devices": 1_000, "people": 5, "stored": 0, "rounds": 5, "database": "sqlite"},
    ),
    "latency": (
        latency.run,
        "from PUBLISH sent to visible in the API, under load",
        {"rate": 1_000, "devices": 1_000, "people": 5, "probes": 300, "rounds": 3},
    ),
    "read": (
        _read,
        "requests a second, against a bare Flask view",
        {"seconds": 4, "rounds": 5, "many": read.MANY, "commits": read.COMMITS, "database": "sqlite"},
    ),
    "follow": (
        follow.run,
        "what an open live page costs the API: polling with an ETag, against server-sent events",
        {"followers": 200, "people": 5, "seconds": 10, "rounds": 3},
    ),
    "scale": (
        scale.run,
        "ingest against devices, people and rows, reading against people",
        {"messages": 30_000, "rounds": 3, "seconds": 3},
    ),
    "memory": (
        memory.run,
        "the daemon's resident memory while a backlog waits",
        {"messages": 200_000, "devices": 1_000, "people": 5, "rounds": 3},
    ),
    "prune": (
        prune.run,
        "how long a batch waits while people and history are deleted for their age",
        {"stored": 1_000_000, "minutes": 3_000_000, "rate": 100, "devices": 1_000, "seconds": 20, "rounds": 3},
    ),
    "flood": (
        flood.run,
        "how long other devices wait while one floods the broker with invalid messages",
        {"rate": 1_000, "size": 60_000, "seconds": 20, "rounds": 1},
    ),
    "histories": (
        histories.run,
        "how long other requests wait while clients request long histories in parallel",
        {"clients": 50, "points": 10_000, "seconds": 15, "rounds": 1},
    ),
    "years": (
        years.run,
        "how long a history of years takes, against SQLite that adds up its minutes",
        {"years": 3, "rounds": 5},
    ),
    "overview": (
        overview.run,
        "how long the overview of many devices takes",
        {"devices": 500, "days": 28, "rounds": 20},
    ),
    "shards": (
        shards.run,
        "two and four daemons on one PostgreSQL, each with its own broker, against one",
        {"messages": 30_000, "devices": 1_000, "people": 5, "rounds": 3},
    ),
    "failover": (
        failover.run,
        "kill -9 of the PostgreSQL primary, until the daemon commits on the promoted standby",
        {"rate": 500, "devices": 1_000, "people": 5, "rounds": 5},
    ),
    "stages": (
        stages.run,
        "the processor time of each step of the daemon, a message of a waiting backlog",
        {"messages": 30_000, "devices": 1_000, "people": 5, "rounds": 5},
    ),
    "start": (
        start.run,
        "from the daemon's start to its first commit, with a large file and with an empty one",
        {"stored": 10_000_000, "minutes": 30_000_000, "devices": 100, "rounds": 3},
    ),
    "all": (
        _all,
        "scale, latency at four rates, and memory: the values that the documents show",
        {"messages": 30_000, "rounds": 3, "seconds": 3, "probes": 300},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure against a limit in one run.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (run, text, defaults) in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        for option, default in defaults.items():
            if isinstance(default, str):
                text = "postgresql: against SQLite in the same run, without the other limits"
                command.add_argument(f"--{option}", choices=DATABASES, default=default, help=text)
            else:
                command.add_argument(f"--{option}", type=int, default=default, help=f"default {default:,}")
        command.add_argument("--json", type=Path, help="write what was measured to this file")
        command.set_defaults(run=run)
    options = vars(parser.parse_args())
    run, file = options.pop("run"), options.pop("json")
    options.pop("command")
    report = Report()
    run(report, **options)
    print("", *HEAD, *(row for each in report.results.measurements for row in rows(each)), sep="\n")
    if file is not None:
        report.write(file)


main()
