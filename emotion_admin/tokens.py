"""The API's bearer tokens: a file with two lines a token, a comment with its name and the token with its limits."""

import secrets
from collections.abc import Collection
from pathlib import Path

from emotion_admin.errors import OperatorError
from emotion_admin.files import changing, write
from shared.batch import DEVICE_ID
from shared.tokens import Token


class Tokens:
    """The tokens in `path`, which need not exist yet. EMOTION_API_TOKEN_FILE names it to the API."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        return list(self._read())

    def limits(self) -> dict[str, str]:
        """The limits of each token as they stand in the file, by name; empty without any."""
        return {name: written.partition(";")[2] for name, written in self._read().items()}

    def add(self, name: str, *, devices: Collection[str] | None = None, views: Collection[str] | None = None) -> str:
        """Create a token, which may read only these devices and views, and return it. Raises OperatorError.

        `name` says who uses it.
        """
        if not DEVICE_ID.fullmatch(name):
            raise OperatorError(f"{name!r} cannot name a token: use 1 to 64 of A-Z a-z 0-9 . _ : -")
        with changing(self._path.parent):
            tokens = self._read()
            if name in tokens:
                raise OperatorError(f"a token named {name} exists already: remove it first, or choose another name")
            token = Token(secrets.token_urlsafe(32), _limit(devices), _limit(views))
            tokens[name] = token.written()
            self._write(tokens)
        return token.text

    def remove(self, name: str, *, last: bool = False) -> None:
        """Make a token invalid; the last one only with `last`. Raises OperatorError."""
        with changing(self._path.parent):
            tokens = self._read()
            if tokens.pop(name, None) is None:
                raise OperatorError(f"there is no token named {name}: see scripts/token list")
            if not tokens and not last:
                raise OperatorError(
                    "this is the last token; without one every client that reaches the API can read it: "
                    "add another token first, or confirm with --last"
                )
            self._write(tokens)

    def _read(self) -> dict[str, str]:
        """Return the tokens by the comment before each; a token without a comment is named by its number."""
        if not self._path.exists():
            return {}
        tokens: dict[str, str] = {}
        name = ""
        for line in self._path.read_text(encoding="utf-8").splitlines():
            if line.lstrip().startswith("#"):
                name = line.strip("# \t")
                continue
            for token in line.replace(",", " ").split():
                tokens[name or f"token {len(tokens) + 1}"] = token
                name = ""
        return tokens

    def _write(self, tokens: dict[str, str]) -> None:
        write(self._path, "".join(f"# {name}\n{token}\n" for name, token in tokens.items()))


def _limit(values: Collection[str] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(values)
