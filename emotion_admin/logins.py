"""Mosquitto's password file: a line `name:$7$iterations$salt$hash` for each login.

The hash is PBKDF2 with SHA-512, which Mosquitto 2.0 and 2.1 both read (mosquitto_passwd(1), `-H sha512-pbkdf2`).
mosquitto_passwd itself is not used: it wants the password on its command line, where every process can read it.
"""

import hashlib
import secrets
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emotion_admin.errors import OperatorError
from emotion_admin.files import changing, write
from shared.batch import DEVICE_ID

DAEMON = "emotion-daemon"
"""The daemon's login and, as the broker takes the one for the other, its client id."""

HEALTH = "health"
"""Who the broker's health check is."""

_ITERATIONS = 1_000  # a password of 190 random bits cannot be guessed, however fast one hash is


class Logins:
    """The logins of the broker whose password file is `path`; the file need not be there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        """Every login, the daemon's and the health check's too."""
        return sorted(self._read())

    def devices(self) -> list[str]:
        return [name for name in self.names() if name not in (DAEMON, HEALTH)]

    def add(self, name: str) -> str:
        """Make a login, and return its password, which is stored nowhere else. Raises OperatorError."""
        self.check_new(name)
        with self._changing() as hashes:
            return _set(hashes, name)

    def check_new(self, name: str) -> None:
        """Raise OperatorError where `name` cannot be a device's login, or is one already."""
        check_device_login(name)
        if name in self._read():
            raise OperatorError(f"{name} has a login already; add --renew gives it a new password")

    def renew(self, name: str) -> str:
        """Give a login a new password and return it; make the login where there is none."""
        with self._changing() as hashes:
            return _set(hashes, name)

    def remove(self, name: str) -> None:
        """Take the login away. Raises OperatorError."""
        check_device_login(name)
        with self._changing() as hashes:
            if hashes.pop(name, None) is None:
                raise OperatorError(f"{name} has no login; list shows who has")

    def _read(self) -> dict[str, str]:
        if not self._path.exists():
            return {}
        lines = self._path.read_text(encoding="utf-8").splitlines()
        return {name: digest for name, colon, digest in (line.partition(":") for line in lines) if colon}

    @contextmanager
    def _changing(self) -> Iterator[dict[str, str]]:
        """The hashes by name, written back at the end of the block; one process at a time."""
        with changing(self._path.parent):
            hashes = self._read()
            yield hashes
            write(self._path, "".join(f"{name}:{digest}\n" for name, digest in sorted(hashes.items())))


def check_device_login(name: str) -> None:
    """Raise OperatorError where `name` cannot be a device's login."""
    if not DEVICE_ID.fullmatch(name):
        raise OperatorError(f"{name!r} is no device id: it has to be 1 to 64 of A-Z a-z 0-9 . _ : -")
    if ":" in name:
        raise OperatorError(f"{name} cannot have a login: ':' separates name and password in Mosquitto's password file")
    if name in (DAEMON, HEALTH):
        raise OperatorError(f"{name} is the login of a part of this system: choose another device id")


def _set(hashes: dict[str, str], name: str) -> str:
    password = secrets.token_urlsafe(24)
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    hashes[name] = f"$7${_ITERATIONS}${b64encode(salt).decode()}${b64encode(digest).decode()}"
    return password
