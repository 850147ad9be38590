"""The hosts that the API answers for: without tokens, a foreign page could otherwise read the data by DNS rebinding."""

import ipaddress
from collections.abc import Collection, Sequence
from functools import lru_cache

from flask import Flask, Response, request

from emotion_api.web.errors import problem

HEALTH_VIEWS = frozenset(("health", "healthz", "ready", "metrics"))
"""Flask's names of the views that hold nothing of the data: health checks and Prometheus use any name."""


def register(app: Flask, allowed: Sequence[str], *, with_tokens: bool) -> None:
    """Have `app` answer 421 if the Host header names a host that is neither `allowed`, nor localhost, nor an address.

    With tokens it answers for every host: a foreign page has no token.
    """
    if with_tokens:
        return
    names = frozenset(("localhost", *map(str.lower, allowed)))

    def check_host() -> Response | None:
        host = request.environ.get("HTTP_HOST", "")
        if request.endpoint in HEALTH_VIEWS or is_allowed(host, names):
            return None
        return problem(
            421,
            f"This API does not answer for the host {host!r:.80}. If it is reached under this name, add the name to "
            "EMOTION_ALLOWED_HOSTS and restart the API.",
        )

    app.before_request(check_host)


@lru_cache(maxsize=256)
def is_allowed(host: str, names: Collection[str]) -> bool:
    """Return True if a Host header, with or without a port, is an IP address or one of `names`."""
    name = host.lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    return not name or name.removesuffix(".") in names or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
