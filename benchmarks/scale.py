"""Ingest against how many devices there are, how many people a batch has, and how many are in the table already.

And reading against how many people a device has.
"""

from benchmarks import ingest, read
from benchmarks.report import Report

DEVICES = (20, 100, 1_000, 10_000)
PEOPLE = (1, 20, 50)  # DEVICES has 5
STORED = (0, 10_000, 100_000, 1_000_000)
PEOPLE_OF_A_DEVICE = (1, 5, 20, 100, 500, 1_000, 2_000)


def run(report: Report, *, messages: int, rounds: int, seconds: int) -> None:
    """Each alone, with 1,000 devices and 5 people a batch where it is not what is varied."""
    for devices in DEVICES:
        ingest.run(report, messages=messages, devices=devices, people=5, rounds=rounds)
    for people in PEOPLE:
        ingest.run(report, messages=messages, devices=100, people=people, rounds=rounds)
    ingest.run(report, messages=messages, devices=1_000, people=5, rounds=rounds, stored=STORED)
    read.run(report, seconds=seconds, rounds=rounds, people=PEOPLE_OF_A_DEVICE)
