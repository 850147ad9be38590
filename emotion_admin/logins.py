"""Mosquitto's password file: one line `name:$7$iterations$salt$hash` a login.

The hash is PBKDF2 with SHA-512, which Mosquitto 2.0 and 2.1 read (mosquitto_passwd(1), `-H sha512-pbkdf2`). This
module writes the file itself: the image of daemon and API has no mosquitto_passwd.
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
"""The daemon's login, and its client id: the shipped brokers take the login's name for it."""

HEALTH = "health"
"""The login of the broker's health check."""

_ITERATIONS = 1_000  # enough: nobody guesses a password of 190 random bits


class Logins:
    """The logins in the password file `path`, which need not exist yet."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        """Return every login, including those of daemon and health check."""
        return sorted(self._read())

    def devices(self) -> list[str]:
        return [name for name in self.names() if name not in (DAEMON, HEALTH)]

    def add(self, name: str) -> str:
        """Create a login and return its password, which is stored nowhere. Raises OperatorError."""
        self.check_new(name)
        with self._changing() as hashes:
            return _set(hashes, name)

    def check_new(self, name: str) -> None:
        """Raise OperatorError if `name` cannot be a device's login, or is one already."""
        check_device_login(name)
        if name in self._read():
            raise OperatorError(f"{name} has a login already: --renew gives it a new password")

    def renew(self, name: str) -> str:
        """Give a login a new password and return that; create the login if it is missing."""
        with self._changing() as hashes:
            return _set(hashes, name)

    def remove(self, name: str) -> None:
        """Delete a login. Raises OperatorError."""
        check_device_login(name)
        with self._changing() as hashes:
            if hashes.pop(name, None) is None:
                raise OperatorError(f"{name} has no login: see scripts/device list")

    def _read(self) -> dict[str, str]:
        if not self._path.exists():
            return {}
        lines = self._path.read_text(encoding="utf-8").splitlines()
        return {name: digest for name, colon, digest in (line.partition(":") for line in lines) if colon}

    @contextmanager
    def _changing(self) -> Iterator[dict[str, str]]:
        """Yield the hashes by name, and write them at the end of the block; one process at a time."""
        with changing(self._path.parent):
            hashes = self._read()
            yield hashes
            write(self._path, "".join(f"{name}:{digest}\n" for name, digest in sorted(hashes.items())))


def check_device_login(name: str) -> None:
    """Raise OperatorError if `name` cannot be a device's login."""
    if not DEVICE_ID.fullmatch(name):
        raise OperatorError(f"{name!r} is not a device id: use 1 to 64 of A-Z a-z 0-9 . _ -")
    if ":" in name:
        raise OperatorError(
            f"{name} cannot have a login, because ':' separates the fields of Mosquitto's password file: use - instead"
        )
    if name in (DAEMON, HEALTH):
        raise OperatorError(f"{name} is a login of this system itself: choose another device id")


def _set(hashes: dict[str, str], name: str) -> str:
    password = secrets.token_urlsafe(24)
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    hashes[name] = f"$7${_ITERATIONS}${b64encode(salt).decode()}${b64encode(digest).decode()}"
    return password
