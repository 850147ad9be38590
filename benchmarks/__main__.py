"""`python -m benchmarks ingest | latency | memory`; each has --help."""

import argparse

from benchmarks import ingest


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure against a baseline in one run.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("ingest", help="a waiting backlog, against a subscriber that does nothing")
    command.add_argument("--messages", type=int, default=30_000)
    command.add_argument("--devices", type=int, default=1_000)
    command.add_argument("--people", type=int, default=5)
    command.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.command == "ingest":
        ingest.run(messages=options.messages, devices=options.devices, people=options.people, rounds=options.rounds)


main()
