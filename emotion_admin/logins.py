"""The broker's logins and their roles: dynamic-security.json, for Mosquitto's plugin dynamic_security.

The plugin rewrites its file, so each start of the broker gives it a copy: only this module writes the original. A
running broker learns of a change through emotion_admin.broker. Passwords are hashed with PBKDF2 and SHA-512.
"""

import hashlib
import json
import secrets
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

from emotion_admin.errors import OperatorError
from emotion_admin.files import changing, write
from emotion_admin.roles import OWN_LOGINS, acls, everything
from shared.batch import DEVICE_ID, Topics

_ITERATIONS = 1_000  # enough: no attacker guesses a password of 190 random bits

_ANONYMOUS = "no login"  # has a space, so no device's role is called like it


class _Hash(TypedDict):
    """A password's hash and its salt, both in base64."""

    password: str
    salt: str
    iterations: int


class Logins:
    """The logins in the file `path`, which need not exist yet; their roles name `topics`."""

    def __init__(self, path: Path, topics: Topics) -> None:
        self._path = path
        self._topics = topics
        self._is_locked = False

    def names(self) -> list[str]:
        """Return every login, including those of the system itself."""
        return sorted(self._read())

    def devices(self) -> list[str]:
        return [name for name in self.names() if name not in OWN_LOGINS]

    def add(self, name: str) -> str:
        """Create a login and return its password, which is stored nowhere. Raises OperatorError."""
        self.check_new(name)
        return self.renew(name)

    def check_new(self, name: str) -> None:
        """Raise OperatorError if `name` cannot be a device's login, or is one already."""
        check_device_login(name)
        if name in self._read():
            raise OperatorError(f"{name} has a login already: --renew gives it a new password")

    def renew(self, name: str) -> str:
        """Give a login a new password and return that; create the login if it is missing."""
        password = new_password()
        with self._changing() as hashes:
            hashes[name] = _hash(password)
        return password

    def remove(self, name: str) -> bool:
        """Delete a device's login, and return whether there was one. Raises OperatorError."""
        check_device_login(name)
        with self._changing() as hashes:
            return hashes.pop(name, None) is not None

    def convert(self, passwords: Path) -> None:
        """Replace all logins by those of a password file of Mosquitto, and delete that file."""
        with self._changing() as hashes:
            hashes.clear()
            hashes.update(_read_password_file(passwords))
        passwords.unlink()

    def write_roles(self) -> bool:
        """Write every login's role anew, as this version has it; return whether that changed the file."""
        before = self._path.read_bytes()
        with self._changing():
            pass
        return self._path.read_bytes() != before

    def write_open_copy(self, path: Path) -> None:
        """Write a copy to `path` that allows everything to clients without a login."""
        document = _document(self._read(), self._topics)
        document["roles"].append({"rolename": _ANONYMOUS, "acls": everything()})
        document["groups"] = [{"groupname": _ANONYMOUS, "roles": [{"rolename": _ANONYMOUS}]}]
        document["anonymousGroup"] = _ANONYMOUS
        write(path, _as_json(document))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep all other processes from changing a login, in the file or in the running broker, during the block."""
        if self._is_locked:
            yield
            return
        with changing(self._path.parent):
            self._is_locked = True
            try:
                yield
            finally:
                self._is_locked = False

    def _read(self) -> dict[str, _Hash]:
        if not self._path.exists():
            return {}
        return read_logins(self._path.read_bytes(), str(self._path))

    @contextmanager
    def _changing(self) -> Iterator[dict[str, _Hash]]:
        """Yield the hashes by name, and write them at the end of the block."""
        with self.locked():
            hashes = self._read()
            yield hashes
            write(self._path, _as_json(_document(hashes, self._topics)))


def read_logins(content: bytes, place: str) -> dict[str, _Hash]:
    """Return the hashes by name in the content of dynamic-security.json. Raises OperatorError, which names `place`."""
    try:
        return {
            each["username"]: {"password": each["password"], "salt": each["salt"], "iterations": each["iterations"]}
            for each in json.loads(content)["clients"]
        }
    except (ValueError, KeyError, TypeError) as error:
        raise OperatorError(
            f"the broker's logins in {place} are damaged: restore an intact backup (docs/operate/backup.md#restore)"
        ) from error


def check_device_login(name: str) -> None:
    """Raise OperatorError if `name` cannot be a device's login."""
    if not DEVICE_ID.fullmatch(name):
        raise OperatorError(f"{name!r} is not a device id: use 1 to 64 of A-Z a-z 0-9 . _ : -")
    if name in OWN_LOGINS:
        raise OperatorError(f"{name} is a login of this system itself: choose another device id")


def new_password() -> str:
    return secrets.token_urlsafe(24)


_DENIED = {"publishClientSend": False, "publishClientReceive": False, "subscribe": False, "unsubscribe": True}


def _document(hashes: Mapping[str, _Hash], topics: Topics) -> dict[str, Any]:
    names = sorted(hashes)
    return {
        "defaultACLAccess": _DENIED,
        "clients": [{"username": name, **hashes[name], "roles": [{"rolename": name}]} for name in names],
        "roles": [{"rolename": name, "acls": acls(name, topics)} for name in names],
    }


def _as_json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":")) + "\n"


def _hash(password: str) -> _Hash:
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    return {"password": b64encode(digest).decode(), "salt": b64encode(salt).decode(), "iterations": _ITERATIONS}


def _read_password_file(path: Path) -> dict[str, _Hash]:
    """Read the lines `name:$7$iterations$salt$hash`. Raises OperatorError."""
    hashes: dict[str, _Hash] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, colon, stored = line.partition(":")
        if not colon:
            continue
        try:
            _, kind, iterations, salt, digest = stored.split("$")
            hashes[name] = {"password": digest, "salt": salt, "iterations": int(iterations)}
        except ValueError:
            kind = ""
        if kind != "7":
            raise OperatorError(f"{path}: the hash of {name!r:.80} is of another kind: delete that line and try again")
    return hashes
