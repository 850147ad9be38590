"""The files of an SQLite database: permissions, disk, file system, and the -wal file's size. Never opens them."""

import os
import pwd
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from emotion_admin.doctor import permissions
from emotion_admin.doctor.finding import Finding, ok, problem, warning
from emotion_admin.doctor.mounts import mount_of
from emotion_admin.doctor.permissions import Entry, User
from emotion_admin.errors import OperatorError
from emotion_daemon.monitoring.disk import Room, room
from emotion_daemon.storage.file_guard import MAX_WAL_BYTES

DISK = "database disk"
FILE_SYSTEM = "database file system"
WAL = "database -wal"

SCARCE, VERY_SCARCE = 0.10, 0.02
VERY_SCARCE_BYTES = (100 * 2**20, 2**30)
"""The bounds of VERY_SCARCE: two hundredths of a large disk last for years."""


def user(text: str) -> User:
    """Return the user of a name or number. A number need not have an entry, as in a container. Raises OperatorError."""
    if text.isdecimal():
        return user_of(int(text), int(text))
    try:
        entry = pwd.getpwnam(text)
    except KeyError as error:
        raise OperatorError(f"there is no user {text!r} here; use a number instead") from error
    groups = frozenset(os.getgrouplist(text, entry.pw_gid))
    return User(text, entry.pw_uid, entry.pw_gid, groups)


def user_of(uid: int, gid: int) -> User:
    """Return the user of a number; `gid` is its group if this machine does not know the user."""
    with suppress(KeyError):
        return user(pwd.getpwuid(uid).pw_name)
    return User(str(uid), uid, gid)


def examine(path: Path, mountinfo: str, *, api_user: User | None) -> Iterator[Finding]:
    """Check the files of an existing database. Raises OSError if this user may not see them."""
    real = Path(os.path.realpath(path))
    yield from _permissions(real, api_user)
    yield from examine_place(real, mountinfo)
    wal = _stat(Path(f"{real}-wal"))
    yield judge_wal(0 if wal is None else wal.st_size)


def examine_place(real: Path, mountinfo: str) -> Iterator[Finding]:
    """Check file system and disk of a file that exists or will. Raises OSError if its folder is missing."""
    yield judge_file_system(str(real), mountinfo)
    yield judge_disk(str(real.parent), room(real.parent))


def judge_file_system(path: str, mountinfo: str) -> Finding:
    """Judge the file system of `path`. `mountinfo` is the text of /proc/self/mountinfo, "" if that is unreadable."""
    mount = mount_of(path, mountinfo)
    if mount is None:
        return ok(FILE_SYSTEM, "cannot tell which one it is")
    if mount.is_network:
        return problem(
            FILE_SYSTEM,
            f"{mount.point} is {mount.kind}, a network file system: SQLite's WAL mode can lose data there",
            "Move the database to a local disk, or use PostgreSQL (EMOTION_DATABASE_URL).",
        )
    if mount.is_read_only:
        return problem(
            FILE_SYSTEM,
            f"{mount.point} ({mount.kind}) is read-only: the daemon cannot store anything",
            "Mount it read-write; for a container, check how its volume is mounted. If the kernel made it read-only, "
            "the disk is faulty (journalctl -k): copy the database away, then repair or replace the disk.",
        )
    if mount.may_lack_shared_memory:
        return warning(
            FILE_SYSTEM,
            f"{mount.point} is {mount.kind}, which often lacks the shared memory of SQLite's WAL mode",
            "If the daemon says `locking protocol` or `disk I/O error`, move the database to a local disk, or use "
            "PostgreSQL (EMOTION_DATABASE_URL).",
        )
    return ok(FILE_SYSTEM, f"{mount.kind}, no network file system")


def judge_disk(folder: str, disk: Room) -> Finding:
    """Judge how much this user can still write on the disk of `folder`."""
    free, size = disk.free, disk.size
    found = f"{free / 2**20:,.0f} MiB free of {size / 2**20:,.0f} ({free / max(size, 1):.0%}) in {folder}"
    advice = (
        f"Make room; find large files with: du -xh {folder} | sort -h | tail. "
        "On a full disk the daemon stores nothing, and the broker queues messages as far as it can."
    )
    least, most = VERY_SCARCE_BYTES
    if free < max(least, min(VERY_SCARCE * size, most)):
        return problem(DISK, found, advice)
    if free < SCARCE * size:
        return warning(DISK, found, advice)
    return ok(DISK, found)


def judge_wal(size: int) -> Finding:
    """Judge the -wal file's size: SQLite cannot shorten it while a transaction reads from it."""
    found = f"{size / 2**20:,.1f} MiB"
    if size > MAX_WAL_BYTES:
        return warning(
            WAL,
            f"{found}: a program keeps a reading transaction open, or no daemon has run since the file grew",
            "Find the program with fuser -v, as root: an sqlite3 shell, or a copy that hangs. The file shrinks when "
            "that program ends.",
        )
    return ok(WAL, found)


def _permissions(path: Path, api_user: User | None) -> Iterator[Finding]:
    database = Entry.of(str(path), os.stat(path))
    folder = Entry.of(str(path.parent), os.stat(path.parent))
    names = [Path(f"{path}{ending}") for ending in ("-wal", "-shm", ".lock")]
    companions = [Entry.of(str(name), status) for name in names if (status := _stat(name)) is not None]
    # A database that was copied back as root belongs to root, in the daemon's folder.
    owner = folder if database.uid == 0 else database
    daemon = user_of(owner.uid, owner.gid)
    api = daemon if api_user is None else api_user
    found = permissions.judge(database, folder, companions, daemon=daemon, api=api)
    yield from found
    if not found:
        users = daemon.name if api.uid == daemon.uid else f"{daemon.name}, and {api.name} for the API"
        yield ok(permissions.SUBJECT, f"files and folder can be used by {users}")


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
