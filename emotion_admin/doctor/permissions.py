"""Check the permissions on the files of an SQLite database: owner, group and mode. It ignores access lists. Pure."""

import os
import shlex
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from emotion_admin.doctor.finding import Finding, problem

SUBJECT = "database rights"

_AS_ROOT = (
    "As root (in containers, see docs/troubleshooting.md#doctor-advises-chown-or-chmod-as-root-with-docker-compose): "
)


@dataclass(frozen=True, slots=True)
class User:
    """A user of the kernel; `groups` are the supplementary ones."""

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


def may(user: User, entry: Entry, wanted: str) -> bool:
    """Return True if `user` has all permissions in `wanted`, letters of rwx. Root has all."""
    if user.uid == 0:
        return True
    shift = 6 if user.uid == entry.uid else 3 if entry.gid in {user.gid, *user.groups} else 0
    bits = sum({"r": 4, "w": 2, "x": 1}[letter] for letter in wanted)
    return (stat.S_IMODE(entry.mode) >> shift) & bits == bits


def judge(database: Entry, folder: Entry, companions: Sequence[Entry], *, daemon: User, api: User) -> list[Finding]:
    """Return which permissions daemon and API lack. `companions` are the existing ones of -wal, -shm and .lock."""
    found = [*_daemon_lacks([database, *companions], folder, daemon)]
    if api.uid != daemon.uid:
        found += _api_lacks(database, folder, companions, daemon, api)
    return found


def _daemon_lacks(files: Sequence[Entry], folder: Entry, user: User) -> Iterator[Finding]:
    if not may(user, folder, "rwx"):
        yield problem(
            SUBJECT,
            f"the daemon's user {user.name} may not write the folder {folder.path}, as -wal and -shm require",
            f"{_AS_ROOT}{_chown(user, folder)} && chmod u+rwx {shlex.quote(folder.path)}",
        )
    for entry in files:
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
                "the database was opened or copied as another user",
                f"{_AS_ROOT}{_chown(user, entry)}",
            )


def _api_lacks(
    database: Entry, folder: Entry, companions: Sequence[Entry], daemon: User, api: User
) -> Iterator[Finding]:
    wanted = [(folder, "x"), (database, "r")]
    wanted += [(entry, "r") for entry in companions if entry.path.endswith(("-wal", "-shm"))]
    missing = [entry.path for entry, letters in wanted if not may(api, entry, letters)]
    if missing:
        yield problem(
            SUBJECT,
            f"the API's user {api.name} may not use {', '.join(missing)}: it needs to read the database, -wal and -shm",
            f"{_AS_ROOT}give these files the group of {api.name}, and chmod g+r. Or run the API as {daemon.name}.",
        )


def _chown(user: User, entry: Entry) -> str:
    return f"chown {user.uid}:{user.gid} {shlex.quote(entry.path)}"
