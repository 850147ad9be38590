"""The disk is full, and full no longer."""

import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from random import Random
from subprocess import CalledProcessError
from urllib.request import urlopen

from sqlalchemy import create_engine, text

from tests.brokers import Broker
from tests.databases import disposing, migrated
from tests.faults.conftest import Rounds
from tests.faults.deliveries import deliveries
from tests.faults.rig import SUBSCRIBED, Rig, running
from tests.faults.small_disk import filled, limited, on_small_disk
from tests.postgresql import PostgreSQL
from tests.processes import Daemon
from tests.waiting import free_port, wait_until

CANNOT, AGAIN = "cannot commit", "committing again after"


def test_a_limit_on_file_sizes_is_waited_out(broker: Broker, sqlite_url: str, tmp_path: Path, rounds: Rounds) -> None:
    """The limit is below what the write-ahead log has, or 0: then there is no room for a line of the daemon's log."""
    with running(broker, sqlite_url, tmp_path / "log") as rig:
        for turn, chance in enumerate(rounds(2, full=20)):
            rig.fleet.wait_for_more(50)
            with limited(rig.daemon.pid, 0 if turn % 2 else 2**16):
                wait_for_standstill(rig)
                rig.fleet.wait_for_more(chance.randint(10, 300))
            rig.check_receiving()
        rig.check()
        log = rig.daemon.log()

    assert log.count(SUBSCRIBED) == 1, "the connection was kept"
    assert f"{CANNOT}: disk I/O error" in log
    assert AGAIN in log


def test_a_small_disk_that_is_full_is_waited_out(tmp_path: Path, rounds: Rounds) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    seeds = [str(chance.random()) for chance in rounds(2, full=20)]
    on_small_disk(folder, __name__, *seeds)


def test_a_start_on_a_full_disk_is_waited_out_and_called_that(tmp_path: Path) -> None:
    """SQLite cannot make its -shm file there, and speaks of an I/O error."""
    folder = tmp_path / "small"
    folder.mkdir()
    on_small_disk(folder, __name__)


def test_a_postgresql_that_cannot_write_is_waited_out(
    broker: Broker, own_postgresql: PostgreSQL, tmp_path: Path, rounds: Rounds
) -> None:
    """The limit is on the server's process that works for the daemon, which may end of that and get a successor."""
    url = own_postgresql.new_database()
    with running(broker, url, tmp_path / "log") as rig:
        for turn, _ in enumerate(rounds(1, full=20), start=1):
            rig.fleet.wait_for_more(50)
            process, lines = server_process(url), rig.daemon.log().count(CANNOT)
            own_postgresql.limit_file_sizes(process, "0")
            rig.daemon.wait_for_log(CANNOT, times=lines + 1)
            with suppress(CalledProcessError):  # the process has ended
                own_postgresql.limit_file_sizes(process, "unlimited")
            rig.daemon.wait_for_log(AGAIN, times=turn)
            rig.check_receiving()
        rig.check()
        log = rig.daemon.log()

    assert log.count(SUBSCRIBED) == 1, "the connection was kept"


def fill_again_and_again(folder: Path, seeds: list[str]) -> None:
    """Once a seed, in one life of the daemon; its log lies on the full disk too."""
    with tempfile.TemporaryDirectory() as elsewhere:
        broker = Broker(Path(elsewhere))
        broker.start()
        try:
            with running(broker, f"sqlite:///{folder}/emotion.db", folder / "log", pace=0.005) as rig:
                for chance in map(Random, seeds):
                    rig.fleet.wait_for_more(chance.randint(20, 100))
                    with filled(folder):
                        wait_for_standstill(rig)
                        rig.fleet.wait_for_more(chance.randint(10, 300))
                    rig.check_receiving()
                rig.check()
                log = rig.daemon.log()
        finally:
            broker.kill()
    assert log.count(SUBSCRIBED) == 1, "the connection was kept"
    assert AGAIN in log


def start_on_a_full_disk(folder: Path) -> None:
    url, address = f"sqlite:///{folder}/emotion.db", f"127.0.0.1:{free_port()}"
    with migrated(url):
        pass
    with tempfile.TemporaryDirectory() as elsewhere:
        broker = Broker(Path(elsewhere))
        broker.start()
        try:
            with (
                filled(folder),
                Daemon(broker, url, Path(elsewhere) / "log", EMOTION_DAEMON_HTTP_ADDRESS=address) as daemon,
            ):
                daemon.wait_for_log("the database does not answer")
                with urlopen(f"http://{address}/metrics", timeout=15) as answer:
                    metrics = answer.read().decode()
                assert 'emotion_database_failing{reason="full"} 1' in metrics, metrics
                (folder / "filler").write_bytes(b"")
                daemon.wait_for_log(SUBSCRIBED)
        finally:
            broker.kill()


def wait_for_standstill(rig: Rig) -> None:
    """Until nothing has been acknowledged for a while, though there is something to store."""
    seen = [deliveries(rig.broker).acknowledged]

    def stands_still() -> bool:
        seen.append(deliveries(rig.broker).acknowledged)
        return len(seen) > 5 and seen[-1] == seen[-5] and deliveries(rig.broker).in_flight > 0

    wait_until(stands_still, pause=0.1, what="nothing is acknowledged any more")


def server_process(url: str) -> int:
    """The process of PostgreSQL that serves the daemon."""
    query = """SELECT pid FROM pg_stat_activity WHERE datname = current_database()
        AND backend_type = 'client backend' AND pid <> pg_backend_pid()"""
    with disposing(create_engine(url)) as engine, engine.connect() as connection:
        pid: int = connection.execute(text(query)).scalar_one()
        return pid


if __name__ == "__main__":
    if sys.argv[2:]:
        fill_again_and_again(Path(sys.argv[1]), sys.argv[2:])
    else:
        start_on_a_full_disk(Path(sys.argv[1]))
