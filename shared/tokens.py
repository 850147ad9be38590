"""The API's bearer tokens, and what each of them may read: `TOKEN;devices=jetson_1|jetson_2;views=overview`."""

import re
from typing import NamedTuple

from shared.batch import DEVICE_ID

VIEWS = ("summary", "totals", "history", "devices", "overview")
"""The operations that a token may be limited to. `totals` is the summary without people."""

MIN_LENGTH, MAX_LENGTH = 16, 4_096
"""Characters of a token. gunicorn takes no header beyond 8,190 bytes."""

_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")  # RFC 6750, section 2.1: b64token


class Token(NamedTuple):
    """A token; `devices` and `views` are all that it may read, None for no limit."""

    text: str
    devices: frozenset[str] | None = None
    views: frozenset[str] | None = None

    @classmethod
    def parse(cls, written: str) -> "Token":
        """Read a token with its limits. Raises ValueError, whose text goes on after "a token that"."""
        text, *limits = written.split(";")
        if not _TOKEN.fullmatch(text) or not MIN_LENGTH <= len(text) <= MAX_LENGTH:
            raise ValueError(
                f"is not {MIN_LENGTH} to {MAX_LENGTH:,} of A-Z a-z 0-9 - . _ ~ + / with = at the end only: "
                "`openssl rand -hex 32` makes a good one"
            )
        found: dict[str, frozenset[str]] = {}
        for limit in limits:
            name, _, values = limit.partition("=")
            if name not in ("devices", "views") or name in found:
                raise ValueError("has a limit that is neither devices=… nor views=…, or has one twice")
            found[name] = frozenset(values.split("|"))
        token = cls(text, found.get("devices"), found.get("views"))
        if not all(map(DEVICE_ID.fullmatch, token.devices or ())):
            raise ValueError("is limited to devices that are not like devices=jetson_1|jetson_2")
        if not (token.views or frozenset()) <= set(VIEWS):
            raise ValueError(f"is limited to views that are not some of views={'|'.join(VIEWS)}")
        return token

    def written(self) -> str:
        """The token with its limits, as `parse` reads it."""
        limits = (("devices", self.devices), ("views", self.views))
        return ";".join([self.text, *(f"{name}={'|'.join(sorted(of))}" for name, of in limits if of is not None)])

    def may_read(self, device_id: str) -> bool:
        """Return True if the token is not limited to other devices."""
        return self.devices is None or device_id in self.devices

    def may_ask(self, *views: str) -> bool:
        """Return True if the token is not limited to views other than these."""
        return self.views is None or not self.views.isdisjoint(views)
