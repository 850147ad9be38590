"""Who may do what with the files of an SQLite database, from owner, group and mode. Access lists do not count. Pure."""

import os
import shlex
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from emotion_admin.doctor.finding import Finding, problem

SUBJECT = "database rights"

_AS_ROOT = "As root (with containers see What if in docs/OPERATING.md): "


@dataclass(frozen=True, slots=True)
class User:
    """A user as the kernel sees it; `groups` are the further ones."""

    name: str
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder, as `os.stat` describes it."""

    path: str
    uid: int
    gid: int
    mode: int

    @classmethod
    def of(cls, path: str, status: os.stat_result) -> "Entry":
        return cls(path, status.st_uid, status.st_gid, status.st_mode)


@dataclass(frozen=True, slots=True)
class Files:
    """The database, its folder, and those of its companions (-wal, -shm, .lock) that are there."""

    database: Entry
    folder: Entry
    companions: Sequence[Entry]


def may(user: User, entry: Entry, wanted: str) -> bool:
    """Whether `user` may do all of `wanted`, letters of rwx. Root may everything."""
    if user.uid == 0:
        return True
    shift = 6 if user.uid == entry.uid else 3 if entry.gid in {user.gid, *user.groups} else 0
    bits = sum({"r": 4, "w": 2, "x": 1}[letter] for letter in wanted)
    return (stat.S_IMODE(entry.mode) >> shift) & bits == bits


def judge(files: Files, *, daemon: User, api: User) -> list[Finding]:
    """What daemon and API have to be allowed and are not; [] where all is right."""
    return [*_of_the_daemon(files, daemon), *_of_the_api(files, daemon, api)]


def _of_the_daemon(files: Files, user: User) -> Iterator[Finding]:
    if not may(user, files.folder, "rwx"):
        yield problem(
            SUBJECT,
            f"the daemon's user {user.name} may not write the folder {files.folder.path}, where -wal and -shm are made",
            f"{_AS_ROOT}{_chown(user, files.folder)} && chmod u+rwx {shlex.quote(files.folder.path)}",
        )
    for entry in (files.database, *files.companions):
        if may(user, entry, "rw"):
            continue
        if entry.uid == user.uid:
            yield problem(
                SUBJECT,
                f"the daemon's user {user.name} may not read and write {entry.path}",
                f"{_AS_ROOT}chmod u+rw {shlex.quote(entry.path)}",
            )
        else:
            yield problem(
                SUBJECT,
                f"{entry.path} belongs to user {entry.uid}, and the daemon's user {user.name} may not write it: "
                "somebody has opened or copied the database as another user",
                f"{_AS_ROOT}{_chown(user, entry)}",
            )


def _of_the_api(files: Files, daemon: User, api: User) -> Iterator[Finding]:
    """Whoever reads has to write into -shm, and makes it where it is not there."""
    if api.uid == daemon.uid:
        return
    wanted = [(files.folder, "rwx"), (files.database, "r")]
    for entry in files.companions:
        if entry.path.endswith("-shm"):
            wanted.append((entry, "rw"))
        elif entry.path.endswith("-wal"):
            wanted.append((entry, "r"))
    missing = [entry.path for entry, letters in wanted if not may(api, entry, letters)]
    if missing:
        yield problem(
            SUBJECT,
            f"the API's user {api.name} may not use {', '.join(missing)}: "
            "it has to read the database and -wal, and to write -shm and the folder",
            f"Run the API as the daemon's user, {daemon.name}: they share these files.",
        )


def _chown(user: User, entry: Entry) -> str:
    return f"chown {user.uid}:{user.gid} {shlex.quote(entry.path)}"
