"""`python -m benchmarks ingest | latency | memory`, each with --help; and `python -m benchmarks.soak`."""

import argparse

from benchmarks import ingest, latency, memory


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure against a baseline in one run.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run, text, defaults in (
        ("ingest", ingest.run, "a waiting backlog, against a subscriber that does nothing",
         {"messages": 30_000, "devices": 1_000, "people": 5, "rounds": 5}),
        ("latency", latency.run, "from PUBLISH sent to visible in the API, under load",
         {"rate": 1_000, "devices": 1_000, "people": 5, "probes": 500}),
        ("memory", memory.run, "the daemon's resident memory while a backlog waits",
         {"messages": 200_000, "devices": 1_000, "people": 5}),
    ):  # fmt: skip
        command = commands.add_parser(name, help=text)
        for option, default in defaults.items():
            command.add_argument(f"--{option}", type=int, default=default, help=f"default {default:,}")
        command.set_defaults(run=run)
    options = vars(parser.parse_args())
    run = options.pop("run")
    options.pop("command")
    run(**options)


main()
