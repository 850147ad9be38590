"""The API's bearer tokens: a file with, for each, a line of comment that names it and a line that is it."""

import secrets
from pathlib import Path

from emotion_admin.errors import OperatorError
from emotion_admin.files import changing, write
from shared.batch import DEVICE_ID


class Tokens:
    """The tokens in `path`, which EMOTION_API_TOKEN_FILE names; the file need not be there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        return list(self._read())

    def add(self, name: str) -> str:
        """Make a token for whoever `name` is, and return it. Raises OperatorError."""
        if not DEVICE_ID.fullmatch(name):
            raise OperatorError(f"{name!r} cannot name a token: 1 to 64 of A-Z a-z 0-9 . _ : -")
        with changing(self._path.parent):
            tokens = self._read()
            if name in tokens:
                raise OperatorError(f"there is a token named {name} already: remove it first, or choose another name")
            tokens[name] = secrets.token_urlsafe(32)
            self._write(tokens)
        return tokens[name]

    def remove(self, name: str, *, last: bool = False) -> None:
        """Make a token invalid; the `last` one only where that is said. Raises OperatorError."""
        with changing(self._path.parent):
            tokens = self._read()
            if tokens.pop(name, None) is None:
                raise OperatorError(f"there is no token named {name}; list shows them")
            if not tokens and not last:
                raise OperatorError(
                    "this is the last token, and without one the API answers everybody who can reach it: "
                    "add its successor first, or say --last"
                )
            self._write(tokens)

    def _read(self) -> dict[str, str]:
        """The tokens by the comment before each; one that has none is called by its number."""
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
