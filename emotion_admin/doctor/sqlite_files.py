"""The files of an SQLite database: whose they are, on what disk, and how long. Only looked at, never opened."""

import os
import pwd
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from emotion_admin.doctor import permissions
from emotion_admin.doctor.finding import Finding, ok, problem, warning
from emotion_admin.doctor.mounts import mount_of
from emotion_admin.doctor.permissions import Entry, Files, User
from emotion_daemon.storage.file_guard import MAX_WAL_BYTES

DISK = "database disk"
FILE_SYSTEM = "database file system"
WAL = "database -wal"

SCARCE, VERY_SCARCE = 0.10, 0.02
VERY_SCARCE_BYTES = (100 * 2**20, 2**30)
"""VERY_SCARCE is never less and never more than this: of a large disk two hundredths last for years."""

FEWEST_FILES = 10
"""A start of the daemon makes four at most, beside the temporary ones of SQLite."""


class UnknownUserError(Exception):
    """Raised for a name that this machine has no user of."""


def user(text: str) -> User:
    """The user of a name or number; a number need not have an entry, as in a container. Raises UnknownUserError."""
    if text.isdecimal():
        return user_of(int(text), int(text))
    try:
        entry = pwd.getpwnam(text)
    except KeyError as error:
        raise UnknownUserError(f"there is no user {text!r} here; a number will do, too") from error
    return User(text, entry.pw_uid, entry.pw_gid, _groups(text, entry.pw_gid))


def user_of(uid: int, gid: int) -> User:
    """The user of a number; `gid` is its group where this machine does not know it."""
    with suppress(KeyError):
        return user(pwd.getpwuid(uid).pw_name)
    return User(str(uid), uid, gid)


def examine(path: Path, mountinfo: str, *, api_user: User | None) -> Iterator[Finding]:
    """All of it for a database file that is there. Raises OSError where not even that can be looked at."""
    real = Path(os.path.realpath(path))
    yield from _rights(real, api_user)
    yield from examine_place(real, mountinfo)
    wal = _stat(Path(f"{real}-wal"))
    yield judge_wal(0 if wal is None else wal.st_size)


def examine_place(real: Path, mountinfo: str) -> Iterator[Finding]:
    """File system and disk of a file that is there, or is to be made. Raises OSError where there is no folder."""
    yield judge_file_system(str(real), mountinfo)
    disk = os.statvfs(real.parent)
    yield judge_disk(
        str(real.parent),
        free=disk.f_bavail * disk.f_frsize,
        size=disk.f_blocks * disk.f_frsize,
        files=disk.f_favail if disk.f_files else None,
    )


def judge_file_system(path: str, mountinfo: str) -> Finding:
    """`mountinfo` is the text of /proc/self/mountinfo, "" where that cannot be read."""
    mount = mount_of(path, mountinfo)
    if mount is None:
        return ok(FILE_SYSTEM, "cannot tell which one it is")
    if mount.is_network:
        return problem(
            FILE_SYSTEM,
            f"{mount.point} is {mount.kind}, a network file system: SQLite's WAL mode does not work there, "
            "and may lose data",
            "Move the database to a local disk, or use PostgreSQL (EMOTION_DATABASE_URL).",
        )
    if mount.is_read_only:
        return problem(
            FILE_SYSTEM,
            f"{mount.point} ({mount.kind}) is read-only: nothing can be stored",
            "If nobody has mounted it so, its disk is faulty (journalctl -k says how): "
            "copy the database away, then repair or replace that. "
            "Else mount it read-write; of a container, see how its volume is mounted.",
        )
    if mount.may_be_shared:
        return warning(
            FILE_SYSTEM,
            f"{mount.point} is {mount.kind}: cannot tell whether other machines use it, too",
            "If they do, or if you do not know: move the database to a local disk.",
        )
    return ok(FILE_SYSTEM, f"{mount.kind}, local")


def judge_disk(folder: str, *, free: int, size: int, files: int | None = None) -> Finding:
    """Bytes that this user may still write, of how many there are; `files` that it may still make, None: any number."""
    found = f"{free / 2**20:,.0f} MiB free of {size / 2**20:,.0f} ({free / max(size, 1):.0%}) in {folder}"
    advice = (
        f"Make room: what lies there? (du -xh {folder} | sort -h | tail) "
        "When it is full nothing is stored, and the broker keeps what it has room for."
    )
    least, most = VERY_SCARCE_BYTES
    if free < max(least, min(VERY_SCARCE * size, most)):
        return problem(DISK, found, advice)
    if files is not None and files < FEWEST_FILES:
        return problem(
            DISK,
            f"{files} more files can be made on the disk of {folder} (inodes), and the daemon and SQLite need some",
            f"Delete many small files there: which folder has them? (du -x --inodes {folder} | sort -n | tail)",
        )
    if free < SCARCE * size:
        return warning(DISK, found, advice)
    return ok(DISK, found)


def judge_wal(size: int) -> Finding:
    """A -wal file that has grown cannot be brought into the database while somebody reads what is in it."""
    found = f"{size / 2**20:,.1f} MiB"
    if size > MAX_WAL_BYTES:
        return warning(
            WAL,
            f"{found}: a program keeps a transaction open that reads, or no daemon has run since it grew",
            "Find who has the file open (fuser -v, as root): an sqlite3 shell, a copy that hangs. "
            "It shrinks when that ends.",
        )
    return ok(WAL, found)


def _rights(path: Path, api_user: User | None) -> Iterator[Finding]:
    database = Entry.of(str(path), os.stat(path))
    folder = Entry.of(str(path.parent), os.stat(path.parent))
    names = [Path(f"{path}{ending}") for ending in ("-wal", "-shm", ".lock")]
    companions = [Entry.of(str(name), status) for name in names if (status := _stat(name)) is not None]
    # Whoever copies a database back as root leaves root's file in the daemon's folder.
    owner = folder if database.uid == 0 else database
    daemon = user_of(owner.uid, owner.gid)
    api = daemon if api_user is None else api_user
    found = permissions.judge(Files(database, folder, companions), daemon=daemon, api=api)
    yield from found
    if not found:
        whose = daemon.name if api.uid == daemon.uid else f"{daemon.name}, and {api.name} for the API"
        yield ok(permissions.SUBJECT, f"files and folder can be used by {whose}")


def _groups(name: str, gid: int) -> frozenset[int]:
    return frozenset(os.getgrouplist(name, gid))


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
