"""A backup that is made while the daemon writes, and the way back."""

import io
import os
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, text

from emotion_admin import backup
from emotion_admin.errors import OperatorError
from emotion_admin.secrets import Secrets
from emotion_daemon.monitoring.disk import Room
from emotion_daemon.storage.errors import DatabaseInUseError
from emotion_daemon.storage.file_lock import only_one
from emotion_daemon.storage.migrations import revisions
from shared.batch import Topics
from shared.schema import device
from tests.certificates import Authority, Certificate
from tests.databases import migrated
from tests.processes import without_settings

TOPICS = Topics("emotions")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "emotion.db"


@pytest.fixture
def engine(database: Path) -> Iterator[Engine]:
    """A writer that stays connected: what it commits is in the -wal file."""
    with migrated(f"sqlite:///{database}") as engine:
        yield engine


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    secrets = Secrets(tmp_path / "secrets", TOPICS)
    secrets.make_missing()
    return secrets


def add(engine: Engine, device_id: str) -> None:
    with engine.begin() as connection:
        connection.execute(insert(device), {"device_id": device_id})


def devices(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return sorted(row[0] for row in connection.execute("SELECT device_id FROM device"))


def saved(secrets: Secrets, database: Path | None) -> io.BytesIO:
    stream = io.BytesIO()
    backup.save(stream, secrets, database)
    return io.BytesIO(stream.getvalue())


def test_what_was_committed_last_is_in_it_and_what_comes_later_is_not(
    engine: Engine, secrets: Secrets, database: Path, tmp_path: Path
) -> None:
    add(engine, "before")
    archive = saved(secrets, database)
    add(engine, "after")
    elsewhere = tmp_path / "elsewhere" / "emotion.db"
    elsewhere.parent.mkdir()

    checked = backup.check(io.BytesIO(archive.getvalue()), database).names()
    names = backup.restore(archive, Secrets(tmp_path / "other", TOPICS), elsewhere).names()

    assert devices(elsewhere) == ["before"]
    assert checked == names
    assert names == [
        "emotion.db",
        "secrets/api/tokens",
        "secrets/broker/admin-password",
        "secrets/broker/dynamic-security.json",
        "secrets/broker/health-options",
        "secrets/daemon/password",
    ]
    assert Secrets(tmp_path / "other", TOPICS).logins.names() == secrets.logins.names()


def test_the_logins_of_an_earlier_versions_backup_replace_those_that_are_there(secrets: Secrets) -> None:
    """Its logins were in a password file, without one for administration."""
    secrets.logins.add("later")
    lines = b"emotion-daemon:$7$1000$c2FsdA==$aGFzaA==\njetson_1:$7$1000$c2FsdA==$aGFzaA==\n"
    stream = io.BytesIO()
    with tarfile.open(mode="w|", fileobj=stream) as archive:
        for name, content in (("secrets/broker/passwords", lines), (backup.END, b"")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))

    backup.restore(io.BytesIO(stream.getvalue()), secrets, None)
    secrets.make_missing()

    assert secrets.logins.names() == ["emotion-admin", "emotion-daemon", "health", "jetson_1"]
    assert secrets.make_missing() == []


def test_it_leaves_nothing_behind_and_holds_nobody_up(engine: Engine, secrets: Secrets, database: Path) -> None:
    saved(secrets, database)
    add(engine, "later")

    assert {path.name for path in database.parent.iterdir()} == {
        *("emotion.db", "emotion.db-wal", "emotion.db-shm", "secrets")
    }


def test_what_a_killed_backup_has_left_is_cleared_away(engine: Engine, secrets: Secrets, database: Path) -> None:
    abandoned, under_way = (database.parent / f".backup-{name}" for name in ("abandoned", "under_way"))
    for folder in (abandoned, under_way):
        folder.mkdir()
        (folder / "emotion.db").touch()
    two_days_ago = time.time() - 2 * 86_400
    os.utime(abandoned, (two_days_ago, two_days_ago))

    saved(secrets, database)

    assert not abandoned.exists()
    assert under_way.exists()


def test_a_restored_database_is_not_mixed_with_the_log_of_the_one_before(
    engine: Engine, secrets: Secrets, database: Path
) -> None:
    add(engine, "before")
    archive = saved(secrets, database)
    with closing(sqlite3.connect(database)) as crashed:  # its -wal stays, as a crash leaves it
        engine.dispose()
        crashed.execute("PRAGMA wal_autocheckpoint=0")
        crashed.execute("INSERT INTO device (device_id) VALUES ('after')")
        crashed.commit()
        backup.restore(archive, secrets, database)

    assert devices(database) == ["before"]


def test_nothing_is_restored_while_a_daemon_runs(engine: Engine, secrets: Secrets, database: Path) -> None:
    archive = saved(secrets, database)
    add(engine, "after")
    secrets.logins.add("jetson_1")

    with only_one(database), pytest.raises(DatabaseInUseError):
        backup.restore(archive, secrets, database)

    assert devices(database) == ["after"]
    assert secrets.logins.devices() == ["jetson_1"], "nor were the logins"


@pytest.mark.parametrize("part", [0.0, 0.01, 0.1, 0.5, 0.8])
def test_a_part_of_a_backup_changes_nothing(engine: Engine, secrets: Secrets, database: Path, part: float) -> None:
    archive = saved(secrets, database).getvalue()
    add(engine, "after")

    cut = archive[: int(part * len(archive))]
    with pytest.raises(OperatorError, match="only a part"):
        backup.check(io.BytesIO(cut), database)
    with pytest.raises(OperatorError, match="only a part"):
        backup.restore(io.BytesIO(cut), secrets, database)

    assert devices(database) == ["after"]


def test_a_damaged_database_is_not_put_in_place(engine: Engine, secrets: Secrets, database: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(mode="w", fileobj=stream) as archive:
        member = tarfile.TarInfo("emotion.db")
        member.size = 8_192
        archive.addfile(member, io.BytesIO(b"no database" * 800))
        archive.addfile(tarfile.TarInfo(backup.END))

    with pytest.raises(OperatorError, match="damaged"):
        backup.check(io.BytesIO(stream.getvalue()), database)
    with pytest.raises(OperatorError, match="damaged"):
        backup.restore(io.BytesIO(stream.getvalue()), secrets, database)

    assert devices(database) == []


def test_a_backup_of_a_newer_version_is_refused_before_anything_is_stopped(
    engine: Engine, secrets: Secrets, database: Path
) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    archive = saved(secrets, database).getvalue()
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :known"), {"known": revisions()[-1]})
    add(engine, "present")

    sentence = r"from a newer version of this program \(schema 9999\): install that version"
    with pytest.raises(OperatorError, match=sentence):
        backup.check(io.BytesIO(archive), database)
    with pytest.raises(OperatorError, match=sentence):
        backup.restore(io.BytesIO(archive), secrets, database)

    assert devices(database) == ["present"]
    assert not list(database.parent.glob(".restore-*"))


def test_a_backup_of_an_older_version_is_restored(
    engine: Engine, secrets: Secrets, database: Path, tmp_path: Path
) -> None:
    """The daemon upgrades it at its start."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :known"), {"known": revisions()[0]})

    assert "emotion.db" in backup.restore(saved(secrets, database), secrets, tmp_path / "elsewhere.db").names()


def test_an_sqlite_backup_for_postgresql_is_refused_before_anything_is_stopped(
    engine: Engine, secrets: Secrets, database: Path
) -> None:
    with pytest.raises(OperatorError, match="EMOTION_DATABASE_URL names PostgreSQL"):
        backup.check(saved(secrets, database), None)


@pytest.mark.parametrize(
    "name", ["../evil", "secrets/../evil", "secrets/broker/../../evil", "/etc/evil", "secrets/evil"]
)
def test_an_archive_writes_nowhere_else(secrets: Secrets, database: Path, tmp_path: Path, name: str) -> None:
    stream = io.BytesIO()
    with tarfile.open(mode="w", fileobj=stream) as archive:
        member = tarfile.TarInfo(name)
        member.size = 4
        archive.addfile(member, io.BytesIO(b"evil"))
        archive.addfile(tarfile.TarInfo(backup.END))

    assert backup.restore(io.BytesIO(stream.getvalue()), secrets, database).names() == []

    assert not list(tmp_path.rglob("evil"))


def test_without_a_database_there_is_a_sentence(secrets: Secrets, database: Path) -> None:
    with pytest.raises(OperatorError, match="start the daemon once"):
        saved(secrets, database)


def test_with_postgresql_the_secrets_alone_are_saved(secrets: Secrets, tmp_path: Path) -> None:
    archive = saved(secrets, None)

    assert "emotion.db" not in backup.restore(archive, Secrets(tmp_path / "other", TOPICS), None).names()


@pytest.mark.parametrize("content", [b"", bytes(4096)])
def test_damaged_logins_are_neither_saved_nor_restored(secrets: Secrets, content: bytes) -> None:
    archive = saved(secrets, None).getvalue()
    intact = secrets.dynamic_security.read_bytes()
    secrets.dynamic_security.write_bytes(content)

    with pytest.raises(OperatorError, match=r"logins in .*/dynamic-security.json are damaged"):
        saved(secrets, None)

    backup.restore(io.BytesIO(archive), secrets, None)
    assert secrets.dynamic_security.read_bytes() == intact
    with pytest.raises(OperatorError, match="logins in this backup are damaged"):
        backup.check(archive_of(member("secrets/broker/dynamic-security.json", len(content))), None)


def install(secrets: Secrets, made: Certificate) -> None:
    """Without a check, as files that were valid at that time."""
    secrets.certificate.write_bytes(made.certificate.read_bytes())
    secrets.key.write_bytes(made.key.read_bytes())


@pytest.mark.program
@pytest.mark.parametrize("fault", ["has expired: it was valid until", "is not valid before", "do not match", ""])
def test_a_certificate_that_does_not_work_does_not_replace_the_present_one(
    secrets: Secrets, tmp_path: Path, fault: str
) -> None:
    dates = {"has expired: it was valid until": (-2.0, -1.0), "is not valid before": (1.0, 2.0)}
    begins, ends = dates.get(fault, (0.0, 1.0))
    former = Authority(tmp_path / "former").sign(begins=begins, ends=ends)
    present = Authority(tmp_path / "present").sign()
    install(secrets, former if fault != "do not match" else former._replace(key=present.key))
    archive = saved(secrets, None)
    install(secrets, present)
    secrets.logins.add("later")

    checked = backup.check(io.BytesIO(archive.getvalue()), None)
    restored = backup.restore(archive, secrets, None)

    assert fault in restored.certificate_fault
    assert bool(fault) == bool(restored.certificate_fault)
    assert checked.names() == restored.names()
    assert ("secrets/broker/server.crt" in checked.names()) == (not fault)
    expected = present if fault else former
    assert secrets.certificate.read_bytes() == expected.certificate.read_bytes()
    assert secrets.key.read_bytes() == expected.key.read_bytes()
    assert secrets.logins.devices() == [], "the logins are restored nevertheless"


def test_the_command_says_that_the_certificate_is_not_restored(secrets: Secrets, tmp_path: Path) -> None:
    secrets.certificate.write_text("no certificate\n")
    environment = without_settings() | {"EMOTION_DATABASE_URL": "postgresql+psycopg://reader@127.0.0.1:1/none"}
    command = [sys.executable, "-m", "emotion_admin", "--secrets", str(tmp_path / "other"), "restore"]

    done = subprocess.run(
        command, env=environment, input=saved(secrets, None).getvalue(), capture_output=True, check=True
    )

    assert b"certificate and key are left as they are, because the backup's do not work: " in done.stderr
    assert b"server.crt" not in done.stdout


def test_the_rows_are_whole(engine: Engine, secrets: Secrets, database: Path, tmp_path: Path) -> None:
    with engine.begin() as connection:
        connection.execute(insert(device), [{"device_id": f"jetson_{n}"} for n in range(10_000)])
    elsewhere = tmp_path / "elsewhere.db"

    backup.restore(saved(secrets, database), secrets, elsewhere)

    with engine.connect() as connection:
        assert devices(elsewhere) == sorted(connection.scalars(select(device.c.device_id)))


def test_what_root_restores_belongs_to_the_folders_owner(
    engine: Engine, secrets: Secrets, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Played, so that the test needs no root; tests/install/in_container does it for real."""
    archive = saved(secrets, database)
    elsewhere = tmp_path / "elsewhere" / "emotion.db"
    elsewhere.parent.mkdir()
    given: dict[str, tuple[int, int]] = {}
    real_stat = os.stat

    def stat(path: os.PathLike[str] | str | int, **options: Any) -> os.stat_result:
        found = real_stat(path, **options)
        return os.stat_result([*found[:4], 12345, 12346, *found[6:]]) if path == elsewhere.parent else found

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, uid, gid, **_: given.update({Path(path).name: (uid, gid)}))

    backup.restore(archive, Secrets(tmp_path / "other", TOPICS), elsewhere)

    assert given == {"emotion.db": (12345, 12346), "emotion.db.lock": (12345, 12346)}


def member(name: str, size: int) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size = size
    return made


def archive_of(*members: tarfile.TarInfo) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(mode="w", fileobj=stream) as archive:
        for member in (*members, tarfile.TarInfo(backup.END)):
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return io.BytesIO(stream.getvalue())


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_links_devices_and_folders_are_refused_before_anything_is_stopped(
    kind: bytes, secrets: Secrets, database: Path
) -> None:
    member = tarfile.TarInfo("secrets/api/tokens")
    member.type, member.linkname = kind, "/etc/shadow"

    with pytest.raises(OperatorError, match=r"'secrets/api/tokens' is not a file"):
        backup.check(archive_of(member), database)
    with pytest.raises(OperatorError, match="is not a file"):
        backup.restore(archive_of(member), secrets, database)


def test_a_secret_that_is_too_large_is_refused(secrets: Secrets, database: Path) -> None:
    member = tarfile.TarInfo("secrets/api/tokens")
    member.size = 2**27 + 1

    with pytest.raises(OperatorError, match="has 134,217,729 bytes"):
        backup.check(archive_of(member), database)


def test_a_database_without_room_on_the_disk_is_refused(
    engine: Engine, secrets: Secrets, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = saved(secrets, database)
    monkeypatch.setattr(backup, "room", lambda folder: Room(free=1_000, size=2_000))

    with pytest.raises(OperatorError, match="its disk has room for 1,000: make room"):
        backup.check(archive, database)


def test_a_full_disk_is_the_sentence(tmp_path: Path) -> None:
    """scripts/backup lets the command write to the disk of its choice."""
    (tmp_path / "tokens").write_text("a token\n")
    environment = without_settings() | {"EMOTION_DATABASE_URL": "postgresql+psycopg://reader@127.0.0.1:1/none"}
    command = [sys.executable, "-m", "emotion_admin", "--secrets", str(tmp_path), "backup"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr == "emotion_admin: No space left on device; correct this and run the same command again\n"
