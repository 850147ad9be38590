"""Faults of a database, its files, its disk and its schema."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from emotion_admin.doctor import permissions
from emotion_admin.doctor.database import CONTENT, SCHEMA, SERVER, SUBJECT
from emotion_admin.doctor.finding import Finding
from emotion_admin.doctor.mounts import Mount, mount_of
from emotion_admin.doctor.permissions import Entry, User, may
from emotion_admin.doctor.sqlite_files import DISK, FILE_SYSTEM, WAL, judge_disk, judge_file_system, user
from emotion_daemon.monitoring.disk import Room
from shared.database import writer_engine
from tests.databases import disposing, migrated
from tests.faults.small_disk import filled, on_small_disk
from tests.integration.emotion_admin.doctor.examining import answering, examined
from tests.postgresql import PostgreSQL

MOUNTS = r"""22 27 0:21 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:30 / /data rw - ext4 /dev/vdb rw
24 23 0:31 / /data/far rw,relatime shared:7 master:2 - nfs4 server:/x rw
25 22 0:32 / /with\040space rw - cifs //server/y rw
26 22 0:33 / /twice rw - ext4 /dev/vdc rw
27 26 0:34 / /twice rw - fuse.sshfs server: rw
28 22 0:35 / /bound ro,relatime - ext4 /dev/vdd rw,errors=remount-ro
29 22 0:36 / /remounted rw,relatime - ext4 /dev/vde ro
30 22 0:37 / /faulty rw,relatime - ext4 /dev/vdf rw,emergency_ro
31 22 0:38 / /whole rw,relatime - ext4 /dev/vdg rw,errors=remount-ro
not a mount
"""
OWNER, OTHER = User("emotion", 1000, 1000), User("web", 2000, 2000)
ROOT = os.geteuid() == 0


def set_version(url: str, version: str) -> None:
    with disposing(writer_engine(url)) as engine, engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :v"), {"v": version})


class TestSchema:
    def test_the_newest_is_ok(self, database_url: str) -> None:
        with migrated(database_url):
            pass
        found = examined(None, database_url)

        assert found.level(SCHEMA) == "ok"
        assert {one.subject for one in found.amiss} <= {"daemon", "broker address"}

    def test_an_older_one_is_upgraded_by_the_daemon(self, database_url: str) -> None:
        with migrated(database_url):
            set_version(database_url, "0002")
        found = examined(None, database_url)

        assert found.level(SCHEMA) == "warning"
        assert "Restart the daemon, which upgrades it" in found[SCHEMA].advice
        assert "devices silent" not in found

    def test_a_newer_one_wants_a_newer_program(self, database_url: str) -> None:
        with migrated(database_url):
            set_version(database_url, "9999")
        found = examined(None, database_url)[SCHEMA]

        assert found.level == "problem"
        assert "Start the newer version" in found.advice

    def test_no_tables_yet(self, database_url: str) -> None:
        with disposing(writer_engine(database_url)) as engine, engine.connect():
            found = examined(None, database_url)[SCHEMA]

        assert (found.level, found.found) == ("warning", "there are no tables of the daemon yet")

    def test_tables_without_a_version_keep_the_daemon_from_starting(self, database_url: str) -> None:
        with migrated(database_url) as engine, engine.begin() as connection:
            connection.execute(text("DELETE FROM alembic_version"))
        found = examined(None, database_url)[SCHEMA]

        assert found.level == "problem"
        assert "person_emotion" in found.found

    def test_beside_a_daemon_that_has_tables_a_database_without_is_another(self, postgresql: PostgreSQL) -> None:
        with answering(200, "ok", "emotion_broker_connected 1\n") as address:
            settings = {"EMOTION_DAEMON_HTTP_ADDRESS": address}
            found = examined(None, postgresql.new_database(), settings)

        assert found.level("daemon") == "ok"
        assert found.level(SCHEMA) == "problem"
        assert found[SCHEMA].advice == "Use the daemon's EMOTION_DATABASE_URL."


class TestSqlite:
    def test_a_file_that_is_not_there_is_not_made(self, sqlite_url: str, tmp_path: Path) -> None:
        assert examined(None, sqlite_url).level(SUBJECT) == "warning"
        assert list(tmp_path.iterdir()) == []

    def test_a_file_that_is_no_database(self, sqlite_url: str, tmp_path: Path) -> None:
        (tmp_path / "emotion.db").write_text("no database" * 1000)
        found = examined(None, sqlite_url)[SUBJECT]

        assert found.level == "problem"
        assert "file is not a database" in found.found

    def test_a_file_that_opening_would_change_is_left_alone(self, sqlite_url: str, tmp_path: Path) -> None:
        with migrated(sqlite_url) as engine, engine.begin() as connection:
            connection.execute(text("CREATE TABLE other (x INTEGER)"))
            connection.commit()
            copy = tmp_path / "copy"
            copy.mkdir()
            for name in ("emotion.db", "emotion.db-wal"):
                shutil.copy(tmp_path / name, copy)
        found = examined(None, f"sqlite:///{copy}/emotion.db")[SUBJECT]

        assert found.level == "warning"
        assert "would create the missing" in found.found
        assert sorted(path.name for path in copy.iterdir()) == ["emotion.db", "emotion.db-wal"]

    def test_a_damaged_file_is_found_when_all_of_it_is_read(self, sqlite_url: str, tmp_path: Path) -> None:
        with migrated(sqlite_url):
            pass
        with (tmp_path / "emotion.db").open("r+b") as file:
            file.seek(4 * 4096)
            file.write(bytes(4096))

        assert CONTENT not in examined(None, sqlite_url)
        assert examined(None, sqlite_url, thorough=True)[CONTENT].level == "problem"

    def test_a_wal_file_that_somebody_holds(self, sqlite_url: str, tmp_path: Path) -> None:
        with migrated(sqlite_url) as engine, engine.connect() as connection:
            assert examined(None, sqlite_url).level(WAL) == "ok"
            with (tmp_path / "emotion.db-wal").open("ab") as wal:
                wal.truncate(17 * 2**20)
            found = examined(None, sqlite_url)[WAL]
            connection.rollback()

        assert found.level == "warning"
        assert found.found.startswith("17.0 MiB")


class TestRights:
    def test_a_companion_that_another_user_made(self, sqlite_url: str, tmp_path: Path) -> None:
        """As root the file is really chowned; another user passes a description of the files."""
        shm = tmp_path / "emotion.db-shm"
        if ROOT:
            with migrated(sqlite_url) as engine, engine.connect():
                for path in (tmp_path, *tmp_path.iterdir()):
                    os.chown(path, 12345, 12345)
                os.chown(shm, 0, 0)
                os.chmod(shm, 0o644)
                found = examined(None, sqlite_url)[permissions.SUBJECT]
        else:
            (found,) = judged(shm=(0, 0, 0o644))
            shm = Path("/data/emotion.db-shm")

        assert found.level == "problem"
        assert found.advice.endswith(f": chown {12345 if ROOT else 1000}:{12345 if ROOT else 1000} {shm}")

    def test_files_of_one_user_are_right(self) -> None:
        assert judged() == []

    def test_a_database_that_root_copied_back(self) -> None:
        (found,) = judged(database=(0, 0, 0o600))

        assert "belongs to user 0" in found.found
        assert found.advice.endswith(": chown 1000:1000 /data/emotion.db")

    def test_a_file_whose_own_user_may_not_write_it(self) -> None:
        (found,) = judged(database=(1000, 1000, 0o400))

        assert found.advice.endswith(": chmod u+rw /data/emotion.db")

    def test_a_folder_that_the_daemon_may_not_write(self) -> None:
        (found,) = judged(folder=(0, 0, 0o755))

        assert "/data" in found.found

    def test_an_api_of_another_user_needs_shm_and_folder(self) -> None:
        (found,) = judged(api=OTHER, database=(1000, 1000, 0o644))

        assert found.level == "problem"
        assert "the API's user web may not use /data, /data/emotion.db-wal, /data/emotion.db-shm" in found.found

    def test_an_api_of_another_user_in_the_group_is_right(self) -> None:
        shared = (1000, 5000, 0o660)
        member = User("web", 2000, 2000, frozenset({5000}))

        assert judged(api=member, database=shared, shm=shared, wal=shared, folder=(1000, 5000, 0o770)) == []

    @pytest.mark.parametrize(
        ("who", "owner", "mode", "wanted", "allowed"),
        [
            (OWNER, (1000, 0), 0o600, "rw", True),
            (OWNER, (1000, 0), 0o066, "r", False),
            (OTHER, (0, 2000), 0o640, "r", True),
            (OTHER, (0, 2000), 0o640, "rw", False),
            (OTHER, (0, 0), 0o644, "r", True),
            (User("root", 0, 0), (1000, 1000), 0o000, "rwx", True),
        ],
    )
    def test_owner_group_and_others(
        self, who: User, owner: tuple[int, int], mode: int, wanted: str, allowed: bool
    ) -> None:
        assert may(who, Entry("x", *owner, mode), wanted) is allowed

    def test_a_user_is_a_name_or_a_number(self) -> None:
        assert user("root").uid == 0
        assert user("54321") == User("54321", 54321, 54321)


def judged(api: User = OWNER, **entries: tuple[int, int, int]) -> list[Finding]:
    """Files of the user 1000, but for those that are given: uid, gid and mode."""
    own = (1000, 1000, 0o600)
    made = {name: entries.get(name, own) for name in ("database", "wal", "shm", "lock")}
    folder = Entry("/data", *entries.get("folder", (1000, 1000, 0o700)))
    companions = [
        Entry(f"/data/emotion.db{end}", *made[name])
        for name, end in (("wal", "-wal"), ("shm", "-shm"), ("lock", ".lock"))
    ]
    database = Entry("/data/emotion.db", *made["database"])
    return permissions.judge(database, folder, companions, daemon=OWNER, api=api)


class TestDisk:
    def test_a_full_disk_is_a_problem(self, tmp_path: Path) -> None:
        folder = tmp_path / "small"
        folder.mkdir()
        on_small_disk(folder, __name__, "full")

    @pytest.mark.parametrize(
        ("free", "size", "level"),
        [
            *((50, 100, "ok"), (9.9, 100, "warning"), (1.1, 100, "warning"), (0.9, 100, "problem")),
            *((79, 4_096, "warning"), (0.3, 20, "problem"), (0.09, 0.1, "problem")),
        ],
    )
    def test_how_much_is_left_in_gib(self, free: float, size: float, level: str) -> None:
        assert judge_disk("/data", Room(int(free * 2**30), int(size * 2**30))).level == level


class TestFileSystem:
    @pytest.mark.parametrize(
        ("path", "mount"),
        [
            ("/data/emotion.db", Mount("/data", "ext4")),
            ("/data/far/emotion.db", Mount("/data/far", "nfs4")),
            ("/data/farther/emotion.db", Mount("/data", "ext4")),
            ("/with space/emotion.db", Mount("/with space", "cifs")),
            ("/twice/emotion.db", Mount("/twice", "fuse.sshfs")),
            ("/emotion.db", Mount("/", "ext4")),
        ],
    )
    def test_the_longest_mount_holds_the_file(self, path: str, mount: Mount) -> None:
        assert mount_of(path, MOUNTS) == mount

    def test_a_network_file_system_is_a_problem(self) -> None:
        found = judge_file_system("/data/far/emotion.db", MOUNTS)

        assert found.level == "problem"
        assert "nfs4" in found.found

    def test_a_read_only_one_is_a_problem(self, tmp_path: Path) -> None:
        folder = tmp_path / "small"
        folder.mkdir()
        on_small_disk(folder, __name__, "read-only")

    @pytest.mark.parametrize(
        ("point", "level"), [("bound", "problem"), ("remounted", "problem"), ("faulty", "problem"), ("whole", "ok")]
    )
    def test_read_only_is_what_the_mount_or_the_file_system_says(self, point: str, level: str) -> None:
        assert judge_file_system(f"/{point}/emotion.db", MOUNTS).level == level

    def test_one_that_often_lacks_shared_memory_is_a_warning(self) -> None:
        found = judge_file_system("/pool/emotion.db", "31 1 0:50 / /pool rw - fuse.mergerfs a:b rw\n")

        assert found.level == "warning"
        assert "locking protocol" in found.advice

    def test_without_the_text_nobody_can_tell(self) -> None:
        assert judge_file_system("/data/emotion.db", "").found == "cannot tell which one it is"

    def test_this_machines_own_text_can_be_read(self, sqlite_url: str) -> None:
        with migrated(sqlite_url):
            pass

        assert "cannot tell" not in examined(None, sqlite_url)[FILE_SYSTEM].found


def test_a_table_that_was_dropped_is_missed(database_url: str) -> None:
    with migrated(database_url) as engine, engine.begin() as connection:
        connection.execute(text("DROP TABLE device_total"))
    found = examined(None, database_url)[SCHEMA]

    assert found.level == "problem"
    assert "the newest, but there is no table device_total" in found.found


class TestPostgreSQL:
    def test_a_server_that_is_away(self) -> None:
        found = examined(None, "postgresql+psycopg://user:secret@127.0.0.1:1/emotion")[SERVER]

        assert found.level == "problem"
        assert "refused" in found.found
        assert "secret" not in found.found

    def test_a_login_that_may_not_write(self, postgresql: PostgreSQL) -> None:
        url = postgresql.new_database()
        with migrated(url) as engine, engine.begin() as connection:
            connection.execute(text("DROP ROLE IF EXISTS reader"))
            connection.execute(text("CREATE ROLE reader LOGIN"))
            connection.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader"))
        found = examined(None, url.replace("postgres@", "reader@"))

        assert found[permissions.SUBJECT].level == "problem"
        assert "person_emotion" in found[permissions.SUBJECT].found
        assert examined(None, url).level(permissions.SUBJECT) == "ok"

    def test_a_database_whose_transactions_only_read(self, postgresql: PostgreSQL) -> None:
        url = postgresql.new_database()
        with migrated(url) as engine, engine.begin() as connection:
            connection.execute(text(f"ALTER DATABASE {engine.url.database} SET default_transaction_read_only = on"))
        found = examined(None, url)[permissions.SUBJECT]

        assert found.level == "problem"
        assert "default_transaction_read_only is on" in found.found

    def test_a_standby_cannot_be_written(self, postgresql: PostgreSQL) -> None:
        url = postgresql.new_database()
        say_it_is_a_standby(url)

        found = examined(None, url)[permissions.SUBJECT]

        assert found.level == "problem"
        assert "standby" in found.found


def say_it_is_a_standby(url: str) -> None:
    """Put a function before PostgreSQL's own: a second server would take ten seconds to copy."""
    with disposing(writer_engine(url)) as engine, engine.begin() as connection:
        connection.execute(
            text("CREATE FUNCTION public.pg_is_in_recovery() RETURNS bool LANGUAGE sql AS 'SELECT true'")
        )
        connection.execute(text(f"ALTER DATABASE {engine.url.database} SET search_path = public, pg_catalog"))


def look_at_a_read_only_disk(folder: Path) -> None:
    """Judge by the text alone if nothing can be mounted."""
    url = f"sqlite:///{folder}/emotion.db"
    fresh = examined(None, f"sqlite:///{folder}/fresh.db").level(FILE_SYSTEM)
    with migrated(url):
        pass
    if not mounted("-o", "remount,ro", folder):
        return
    found = [examined(None, f"sqlite:///{folder}/{name}.db")[FILE_SYSTEM] for name in ("emotion", "fresh")]
    assert fresh == "ok"
    assert [one.level for one in found] == ["problem"] * 2, found
    assert f"{folder} (tmpfs) is read-only" in found[0].found, found


def mounted(*arguments: str | Path) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


def look_at_a_full_disk(folder: Path) -> None:
    url = f"sqlite:///{folder}/emotion.db"
    with migrated(url):
        pass
    with filled(folder):
        found = examined(None, url)[DISK]
    assert found.level == "problem", found
    assert found.found.startswith("0 MiB free"), found


if __name__ == "__main__":
    {
        "full": look_at_a_full_disk,
        "read-only": look_at_a_read_only_disk,
    }[sys.argv[2]](Path(sys.argv[1]))
