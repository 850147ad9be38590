"""Save database and secrets as one tar archive while everything runs, and restore them."""

import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

from emotion_admin import certificates
from emotion_admin.errors import OperatorError
from emotion_admin.files import give_to_folders_owner, write
from emotion_admin.logins import read_logins
from emotion_admin.secrets import Secrets
from emotion_daemon.monitoring.disk import room
from emotion_daemon.storage.file_lock import only_one
from emotion_daemon.storage.migrations import revisions

DATABASE = "emotion.db"
"""The database's name in the archive."""

_LOGINS = "secrets/broker/dynamic-security.json"
_CERTIFICATE, _KEY = "secrets/broker/server.crt", "secrets/broker/server.key"

_MAX_SECRET_BYTES = 2**27
"""More than the logins of 100,000 devices take."""

_ABANDONED_SECONDS = 86_400

END = "end of emotion-analytics backup"
"""The name of an empty last member. If it is missing, the archive is incomplete."""


class Contents(NamedTuple):
    """Everything that a restore writes: the secrets by name, and the database, if the archive has one."""

    secrets: dict[str, bytes]
    database: Path | None
    certificate_fault: str
    """The reason that certificate and key are not among the secrets, otherwise ""."""

    def names(self) -> list[str]:
        return sorted([*self.secrets, *([DATABASE] if self.database else [])])


def save(stream: BinaryIO, secrets: Secrets, database: Path | None) -> None:
    """Write the archive to `stream`. `database` is None for PostgreSQL, which pg_dump saves.

    Raises OperatorError if the logins are damaged, the database is missing, or its disk has no room for a copy.
    """
    secrets.logins.names()  # reads the file
    with tarfile.open(mode="w|", fileobj=stream) as archive:
        for path in sorted(secrets.folder.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                _add(archive, f"secrets/{path.relative_to(secrets.folder)}", path)
        if database is not None:
            with _copied(database) as copy:
                _add(archive, DATABASE, copy)
        archive.addfile(tarfile.TarInfo(END))


def check(stream: BinaryIO, database: Path | None) -> Contents:
    """Return what `restore` would write. Raises OperatorError if it would refuse the backup in `stream`."""
    with _unpacked(stream, database) as contents:
        return contents


def restore(stream: BinaryIO, secrets: Secrets, database: Path | None) -> Contents:
    """Restore everything in the archive or nothing. A disk that fails can leave a part.

    A certificate that has expired or does not belong to its key is left out: the present pair stays. Raises
    OperatorError if the archive cannot be restored, and DatabaseFileError while the daemon runs.
    """
    with _unpacked(stream, database) as contents:
        if database is None or contents.database is None:
            _write_secrets(contents.secrets, secrets)
        else:
            with _stopped(database) as real:
                _write_secrets(contents.secrets, secrets)
                _replace(contents.database, real)
        return contents


@contextmanager
def _unpacked(stream: BinaryIO, database: Path | None) -> Iterator[Contents]:
    """Yield what can be restored; the file of the database exists for the block. Raises OperatorError."""
    found: dict[str, bytes] = {}
    free = None if database is None else room(database.parent).free
    with tempfile.TemporaryDirectory(dir=database.parent if database else None, prefix=".restore-") as folder:
        copy = Path(folder, DATABASE)

        def take(name: str, content: IO[bytes]) -> None:
            if _is_secret(name):
                found[name] = content.read()
            elif name == DATABASE and database is None:
                raise OperatorError(
                    "this backup contains an SQLite database, but EMOTION_DATABASE_URL names PostgreSQL"
                )
            elif name == DATABASE:
                _spool(content, copy)

        _for_each_file(stream, take, free=free)
        if copy.exists():
            _check_database(copy)
        if _LOGINS in found:
            read_logins(found[_LOGINS], "this backup")
        fault = _leave_out_useless_certificate(found)
        yield Contents(found, copy if copy.exists() else None, fault)


def _leave_out_useless_certificate(found: dict[str, bytes]) -> str:
    """Remove certificate and key from `found` if no device would accept them, and return why."""
    if not found.keys() & {_CERTIFICATE, _KEY}:
        return ""
    pair = [found.get(name, b"").decode(errors="replace") for name in (_CERTIFICATE, _KEY)]
    try:
        certificates.check_pair(*pair)
    except OperatorError as error:
        for name in (_CERTIFICATE, _KEY):
            found.pop(name, None)
        return str(error)
    return ""


def _write_secrets(found: Mapping[str, bytes], secrets: Secrets) -> None:
    for name, secret in found.items():
        write(secrets.folder / name.removeprefix("secrets/"), secret)


def _for_each_file(stream: BinaryIO, take: Callable[[str, IO[bytes]], None], *, free: int | None) -> None:
    """Call `take` with every file of the archive. Raises OperatorError, perhaps after some calls.

    `free` are the bytes that the database may have.
    """
    last = ""
    try:
        with tarfile.open(mode="r|", fileobj=stream) as archive:
            for member in archive:
                last = member.name
                _check_member(member, free)
                content = archive.extractfile(member)
                assert content is not None
                take(last, content)
    except tarfile.TarError as error:
        raise OperatorError(f"this is no backup, or only a part of one: {error}") from error
    if last != END:
        raise OperatorError("scripts/backup did not make this archive, or it is only a part: its end is missing")


def _check_member(member: tarfile.TarInfo, free: int | None) -> None:
    if not member.isreg():
        raise OperatorError(f"scripts/backup did not make this archive: {member.name!r:.80} is not a file")
    if member.name != DATABASE and member.size > _MAX_SECRET_BYTES:
        raise OperatorError(f"scripts/backup did not make this archive: {member.name!r:.80} has {member.size:,} bytes")
    if free is not None and member.size > free:
        raise OperatorError(
            f"the database in this backup has {member.size:,} bytes, but its disk has room for {free:,}: make room"
        )


@contextmanager
def _copied(database: Path) -> Iterator[Path]:
    """Make a consistent copy for the block, next to the database, whose disk has no limits of /tmp."""
    if not database.exists():
        raise OperatorError(f"there is no database at {database} yet: start the daemon once")
    _delete_abandoned(database.parent)
    with tempfile.TemporaryDirectory(dir=database.parent, prefix=".backup-") as folder:
        copy = Path(folder, DATABASE)
        try:
            with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=15)) as source:
                source.execute("VACUUM INTO ?", [str(copy)])
        except sqlite3.Error as error:
            raise OperatorError(f"cannot copy {database}: {error}") from error
        yield copy


def _delete_abandoned(folder: Path) -> None:
    """Delete what killed backups and restores have left: each is a whole database."""
    for path in (*folder.glob(".backup-*"), *folder.glob(".restore-*")):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(path)


def _add(archive: tarfile.TarFile, name: str, path: Path) -> None:
    with path.open("rb") as content:
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = os.fstat(content.fileno()).st_size, 0o600, int(time.time())
        archive.addfile(member, content)


def _is_secret(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 3 and parts[0] == "secrets" and ".." not in parts and not parts[2].startswith(".")


def _spool(content: IO[bytes], copy: Path) -> None:
    with copy.open("wb") as stream:
        shutil.copyfileobj(content, stream, 2**20)
        stream.flush()
        os.fsync(stream.fileno())


def _check_database(copy: Path) -> None:
    """Raise OperatorError if the daemon could not use this database."""
    try:
        with closing(sqlite3.connect(copy)) as connection:
            (answer,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if answer != "ok":
                raise sqlite3.DatabaseError(answer)
            versions = {version for (version,) in connection.execute("SELECT version_num FROM alembic_version")}
    except sqlite3.DatabaseError as error:
        raise OperatorError(f"the database in this backup is damaged: {error}") from error
    if newer := versions.difference(revisions()):
        raise OperatorError(
            f"the database in this backup is from a newer version of this program (schema {', '.join(newer)}): "
            "install that version, and restore the backup with it"
        )


@contextmanager
def _stopped(database: Path) -> Iterator[Path]:
    """Yield the file behind the path, and keep daemons off it for the block. Raises DatabaseFileError."""
    real = database.resolve()
    with only_one(real):
        give_to_folders_owner(real.with_name(f"{real.name}.lock"))
        yield real


def _replace(copy: Path, database: Path) -> None:
    for companion in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            Path(f"{database}{companion}").unlink()
    os.replace(copy, database)
    give_to_folders_owner(database)
