"""The whole system for a long time, with faults of docs/explain/faults.md done to it at random, one after the other.

    python -m benchmarks.soak --minutes 20 --seed 1

Devices publish and dashboards read all the while. At the end everything that the broker acknowledged is compared with
everything that is stored. The exit code is 0 if nothing is lost, wrong or unrecorded.
"""

import argparse
import json
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.background import repeatedly
from tests.brokers import Broker
from tests.clients import Client
from tests.faults import failpoints
from tests.faults.history import DEVICES, TOPICS
from tests.faults.rig import (
    LAST_MOMENT_SECONDS,
    Difference,
    Moment,
    Rig,
    integrity,
    locked,
    reader,
    rejected_count,
    running,
)
from tests.faults.small_disk import limited
from tests.processes import Daemon
from tests.proxies import Proxy
from tests.waiting import wait_until
from tests.web import SUMMARY, Api

RUBBISH = (b"", b"{", b"\xff", b"[]", b"null", b'{"device_id": "jetson_1"}', b"[" * 100_000, b"x" * 200_000)


class Sample(NamedTuple):
    """The daemon at one moment; `at` is seconds since the start, the rest bytes and counts."""

    at: float
    resident: int
    files: int
    wal: int


@dataclass
class Soak:
    """The system that gets the faults, and the state that they leave."""

    rig: Rig
    proxy: Proxy
    folder: Path
    chance: random.Random
    lost_moments: list[Moment] = field(default_factory=list)
    rejected: int = 0

    @property
    def database(self) -> Path:
        return self.folder / "emotion.db"

    def wait(self, shortest: float, longest: float) -> None:
        time.sleep(self.chance.uniform(shortest, longest))


def kill_daemon(soak: Soak) -> None:
    soak.rig.daemon.kill()
    soak.wait(0, 2)


def kill_daemon_at_a_step(soak: Soak) -> None:
    step = soak.chance.choice(failpoints.STEPS)
    soak.rig.daemon.kill()
    soak.rig.daemon.start(failpoints.COMMAND, FAILPOINT=f"{step}:{soak.chance.randint(1, 20)}")
    soak.rig.daemon.wait(seconds=60)


def stop_daemon(soak: Soak) -> None:
    assert soak.rig.daemon.stop() == 0
    soak.wait(0, 5)


def pause_daemon(soak: Soak) -> None:
    soak.rig.daemon.signal(signal.SIGSTOP)
    soak.wait(1, 35)
    soak.rig.daemon.signal(signal.SIGCONT)


def start_second_daemon(soak: Soak) -> None:
    with Daemon(soak.rig.broker, soak.rig.url, soak.folder / "second.log", EMOTION_MQTT_CLIENT_ID="second") as second:
        assert second.wait() == 1


def restart_broker(soak: Soak) -> None:
    soak.rig.broker.stop()
    soak.wait(0, 5)
    soak.rig.broker.start()


def kill_broker(soak: Soak) -> None:
    time.sleep(LAST_MOMENT_SECONDS)  # what an earlier fault published is saved by then
    now = time.monotonic()
    soak.rig.broker.kill()
    soak.lost_moments.append((now - LAST_MOMENT_SECONDS, time.monotonic()))
    soak.wait(0, 2)
    soak.rig.broker.start()


def cut_network(soak: Soak) -> None:
    for _ in range(soak.chance.randint(1, 5)):
        soak.proxy.cut()
        soak.wait(0, 2)


def stall_network(soak: Soak) -> None:
    with soak.proxy.stalled("client", "broker"):
        soak.wait(1, 20)


def half_open_network(soak: Soak) -> None:
    soak.proxy.half_open(closed=soak.chance.choice((None, "broker", "client")))


def drip_network(soak: Soak) -> None:
    with soak.proxy.dripping():
        soak.wait(1, 10)


def lock_database(soak: Soak) -> None:
    with locked(soak.rig.url):
        soak.wait(1, 30)


def hold_wal(soak: Soak) -> None:
    with reader(soak.rig.url):
        soak.wait(5, 60)


def fill_disk(soak: Soak) -> None:
    with limited(soak.rig.daemon.pid, 4_096):
        soak.wait(1, 10)


def send_rubbish(soak: Soak) -> None:
    number = soak.chance.randint(1, 50)
    with Client(soak.rig.broker, "rubbish") as client:
        for _ in range(number):
            client.send(TOPICS.batch(soak.chance.choice(DEVICES)), soak.chance.choice(RUBBISH))
        client.wait_for_pubacks()
    soak.rejected += number
    wait_until(
        lambda: rejected_count(soak.rig.url) >= soak.rejected, seconds=30, what="all invalid messages are recorded"
    )


FAULTS: dict[str, Callable[[Soak], None]] = {
    "daemon kill -9": kill_daemon,
    "daemon kill -9 at a step": kill_daemon_at_a_step,
    "daemon SIGTERM": stop_daemon,
    "daemon SIGSTOP": pause_daemon,
    "a second daemon": start_second_daemon,
    "broker restarted": restart_broker,
    "broker kill -9": kill_broker,
    "network cut": cut_network,
    "network stalled": stall_network,
    "network half-open": half_open_network,
    "network byte by byte": drip_network,
    "database locked": lock_database,
    "a reader holds the WAL": hold_wal,
    "disk full": fill_disk,
    "rubbish": send_rubbish,
}


class Sampler:
    """Looks at the daemon, and remembers what it saw."""

    def __init__(self, soak: Soak) -> None:
        self._soak = soak
        self._began = time.monotonic()
        self.samples: list[Sample] = []

    def look(self) -> None:
        wal = self._soak.database.with_name(self._soak.database.name + "-wal")
        try:
            daemon = psutil.Process(self._soak.rig.daemon.pid)
            size = wal.stat().st_size
            resident, files = daemon.memory_info().rss, daemon.num_fds()
        except (psutil.Error, FileNotFoundError):  # it is being killed just now
            return
        self.samples.append(Sample(time.monotonic() - self._began, resident, files, size))


class Dashboard:
    """Asks for one device's summary, and counts what it gets."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.answers: Counter[str] = Counter()

    def poll(self) -> None:
        self.answers[self._ask()] += 1

    def _ask(self) -> str:
        try:
            answer = self._api.ask(f"{SUMMARY}?device_id={DEVICES[0]}", timeout=30)
        except OSError as error:
            return type(error).__name__
        if answer.status != 200:
            return str(answer.status)
        summary = json.loads(answer.body)
        happy = sum(person["time_happy"] for person in summary["current_people"])
        return "200" if summary["emotion_totals"]["happy"] == happy else "200, but torn"


def run(*, minutes: float, seed: int, rate: int) -> bool:
    """Print a line a fault and the result at the end, and return whether all is well."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        broker = Broker(folder)
        broker.start()
        stack.callback(broker.kill)
        url = f"sqlite:///{folder}/emotion.db"
        proxy = stack.enter_context(Proxy(broker))
        rig = stack.enter_context(running(broker, url, folder / "daemon.log", pace=1 / rate, through=proxy))
        soak = Soak(rig, proxy, folder, random.Random(seed))
        dashboard = Dashboard(stack.enter_context(Api(url, folder / "api.log")))
        stack.enter_context(repeatedly(dashboard.poll, pause=1))
        sampler = Sampler(soak)
        with repeatedly(sampler.look, pause=1):
            done, slowest = _do_faults(soak, sampler, minutes)
        difference = rig.settle(lost_moments=soak.lost_moments)
        return _report(soak, sampler, dashboard, done, slowest, difference)


def _do_faults(soak: Soak, sampler: Sampler, minutes: float) -> tuple[Counter[str], float]:
    """Faults until the time is over: how often each was done, and the slowest return after one, in seconds."""
    done: Counter[str] = Counter()
    slowest = 0.0
    end = time.monotonic() + 60 * minutes
    began = time.monotonic()
    while time.monotonic() < end:
        soak.wait(0, 5)
        name = soak.chance.choice(list(FAULTS))
        at = time.monotonic()
        FAULTS[name](soak)
        lasted = time.monotonic() - at
        if soak.rig.daemon.ended:
            soak.rig.daemon.start()
        again = soak.rig.check_receiving()
        slowest = max(slowest, again)
        done[name] += 1
        last = sampler.samples[-1] if sampler.samples else Sample(0, 0, 0, 0)
        print(
            f"{time.monotonic() - began:6.0f} s  {name:<25} {lasted:5.1f} s  receiving again after {again:4.1f} s  "
            f"{soak.rig.fleet.acknowledged:>8,} acknowledged  "
            f"RSS {last.resident / 1e6:4.0f} MB  {last.files:>3} files  WAL {last.wal / 1e6:5.1f} MB",
            flush=True,
        )
    return done, slowest


def _report(
    soak: Soak, sampler: Sampler, dashboard: Dashboard, done: Counter[str], slowest: float, difference: Difference
) -> bool:
    resident, files, wal = zip(*(sample[1:] for sample in sampler.samples), strict=True)
    recorded = rejected_count(soak.rig.url)
    health = integrity(soak.rig.url)
    print(f"\nfaults: {sum(done.values())}; " + ", ".join(f"{count} {name}" for name, count in sorted(done.items())))
    print(f"batches acknowledged: {soak.rig.fleet.acknowledged:,}; rows lost: {len(difference.lost)}", end="; ")
    print(f"rows wrong: {len(difference.wrong)}; lost in the last moments of a killed broker: {difference.excused}")
    print(f"rejected: {recorded} recorded of {soak.rejected} sent; integrity: {health}")
    print(f"receiving again: at most {slowest:.1f} s after a fault")
    print(
        f"RSS: {min(resident) / 1e6:.0f} to {max(resident) / 1e6:.0f} MB; open files: {min(files)} to {max(files)}",
        end="; ",
    )
    print(f"WAL: at most {max(wal) / 1e6:.1f} MB, at the end {wal[-1] / 1e6:.1f} MB")
    print("dashboard: " + ", ".join(f"{count:,} x {what}" for what, count in dashboard.answers.most_common()))
    return (
        not difference.lost
        and not difference.wrong
        and recorded == soak.rejected
        and health == "ok"
        and set(dashboard.answers) <= {"200", "503"}
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=20, help="default 20")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="repeat the faults of another run")
    parser.add_argument("--rate", type=int, default=100, help="batches a second, default 100")
    options = parser.parse_args(arguments)
    print(f"python -m benchmarks.soak --minutes {options.minutes:g} --seed {options.seed} --rate {options.rate}")
    return 0 if run(minutes=options.minutes, seed=options.seed, rate=options.rate) else 1


if __name__ == "__main__":
    raise SystemExit(main())
