"""200 clients send their headers or bodies slowly, or read slowly: all others are answered as before."""

import csv
import math
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median

import pytest
from sqlalchemy import insert

from shared.database import writer_engine
from shared.schema import person_emotion
from tests.background import repeatedly
from tests.databases import disposing, make_tables
from tests.faults.history import START
from tests.waiting import wait_until
from tests.web import SUMMARY, Api

SOCKETS = 200
PATIENCE_SECONDS, USUAL_SECONDS = 1.0, 0.1
"""During an attack every answer takes less than the one, and half of them less than the other."""

TIMES = 10
"""The factor by which half of them may take longer than before the attack, on a machine that is slow anyway."""

TIMES_QUICK = 3
"""The factor by which the slowest one may take longer than beside as many clients that send and read at once.

Each of the 200 first requests costs the workers its time, slow or not: on a busy machine all of them take a second.
"""

BEFORE_SECONDS = 1.0
LARGE = "/docs/assets/redoc.js"
"""The file that a slow reader requests: far more than fits into the socket's buffers."""

MEMORY_BYTES = 32 * 2**20
"""Bytes by which the workers' memory may have grown afterwards."""

ATTACKS = {
    "headers": (["-H", "-i", "1"], "/"),
    "body": (["-B", "-i", "1", "-s", "1000000"], SUMMARY),
    # A small receive window from the start, and 5 bytes read a second.
    "read": (["-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "5"], LARGE),
}

GOT_RID_OF = ("body",)
"""Attacks that are over at once: the API answers before it has read a body, and closes the connection."""


class Poller:
    """Asks for `paths`, each time on a new connection, and remembers how long each answer took and which were none."""

    def __init__(self, api: Api, *paths: str) -> None:
        self._api = api
        self._paths = paths
        self.seconds: list[float] = []
        self.failures: list[str] = []

    def __str__(self) -> str:
        return f"{len(self.seconds)} requests, {median(self.seconds):.3f} s usually, {max(self.seconds):.3f} at most"

    def polling(self) -> AbstractContextManager[None]:
        """It polls again and again during the block."""
        return repeatedly(self._poll, pause=0.01)

    def _poll(self) -> None:
        for path in self._paths:
            began = time.monotonic()
            try:
                status = self._api.ask(path).status
            except OSError as error:
                self.failures.append(f"{path}: {error!r}")
            else:
                if status != 200:
                    self.failures.append(f"{path}: {status}")
            self.seconds.append(time.monotonic() - began)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One for all attacks: each sees whether it outlived the ones before."""
    folder = tmp_path_factory.mktemp("api")
    url = f"sqlite:///{folder}/emotion.db"
    fill(url)
    with Api(url, folder / "log") as api:
        for path in ("/", SUMMARY, LARGE) * 10:  # memory that is used from now on is the attacks' doing
            api.ask(path)
        yield api


def fill(database_url: str) -> None:
    make_tables(database_url)
    seconds = dict.fromkeys(("time_happy", "time_sad", "time_angry", "time_neutral"), 1.0)
    people = [{"device_id": "jetson_1", "person_id": str(n), "last_seen": START, **seconds} for n in range(100)]
    with disposing(writer_engine(database_url)) as engine, engine.begin() as connection:
        connection.execute(insert(person_emotion), people)


@pytest.mark.parametrize("attack", ATTACKS)
def test_slow_clients_hold_nobody_up(
    attack: str,
    api: Api,
    tmp_path: Path,
    pytestconfig: pytest.Config,
    record_property: Callable[[str, object], None],
) -> None:
    seconds = 30 if pytestconfig.getoption("--full") else 3
    before, beside_quick, during = (Poller(api, "/", SUMMARY) for _ in range(3))
    with before.polling():
        wait_until(lambda: sum(before.seconds) > BEFORE_SECONDS, what="it was polled for a while")
    with beside_quick.polling():
        run_quick_clients(api)
    handles, memory = api.open_files(), api.memory()
    with during.polling():
        in_all, at_once = attack_for(seconds, attack, api, tmp_path)
    wait_until(lambda: api.open_files() < handles + 20, what=f"the sockets are closed; {handles=} before")

    kept = api.memory() - memory
    print(
        f"{in_all} sockets, {at_once} at once; {kept=}; "
        f"before it {before}, beside quick ones {beside_quick}, during it {during}"
    )
    record_property("rounds", len(during.seconds))
    assert in_all >= SOCKETS
    assert at_once == SOCKETS or attack in GOT_RID_OF
    assert during.failures == []
    assert max(during.seconds) < max(PATIENCE_SECONDS, TIMES_QUICK * max(beside_quick.seconds))
    assert median(during.seconds) < max(USUAL_SECONDS, TIMES * median(before.seconds))
    assert kept < MEMORY_BYTES
    assert "Traceback" not in api.log()


def run_quick_clients(api: Api) -> None:
    """As many clients as the attack has request the large file again and again, and read it at once."""
    wrk = shutil.which("wrk")
    assert wrk, "the tests need wrk: apt-get install wrk"
    command = [wrk, "-t1", f"-c{SOCKETS}", f"-d{math.ceil(BEFORE_SECONDS)}s", "--timeout=30s", api.url + LARGE]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def attack_for(seconds: float, attack: str, api: Api, folder: Path) -> tuple[int, int]:
    """Run slowhttptest, again if the API gets rid of it early. How many sockets it had in all, and at once."""
    in_all = at_once = 0
    end = time.monotonic() + seconds
    while (left := math.ceil(end - time.monotonic())) > 0:
        rows = run_slowhttptest(attack, api, left, folder)
        in_all += max(int(row["Closed"]) + int(row["Connected"]) for row in rows)
        at_once = max(at_once, *(int(row["Connected"]) for row in rows))
    return in_all, at_once


def run_slowhttptest(attack: str, api: Api, seconds: int, folder: Path) -> list[dict[str, str]]:
    """Return its counts, second by second; it ends early if it has no connection left."""
    program = shutil.which("slowhttptest")
    assert program, "the tests need slowhttptest: apt-get install slowhttptest"
    options, path = ATTACKS[attack]
    command = [program, *options, "-c", str(SOCKETS), "-r", str(SOCKETS), "-l", str(seconds), "-u", api.url + path]
    subprocess.run(
        [*command, "-g", "-o", str(folder / "slow"), "-v", "1"], check=True, capture_output=True, timeout=seconds + 30
    )
    with (folder / "slow.csv").open() as counts:
        return list(csv.DictReader(counts))
