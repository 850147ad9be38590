"""What the pages are made of: files that came with a package, as answers with an ETag."""

from functools import cache
from hashlib import blake2b
from importlib import resources

from flask import Response, current_app, request

_MEDIA_TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "html": "text/html"}


def page(html: bytes, policy: str) -> Response:
    """An answer with a page, which may do what the Content-Security-Policy allows."""
    response = file(html, _MEDIA_TYPES["html"])
    response.headers["Content-Security-Policy"] = policy
    return response


def file(content: bytes, media_type: str) -> Response:
    """An answer with `content`; 304 where the browser has it already."""
    response = current_app.response_class(content, mimetype=media_type)
    response.set_etag(_etag(content))
    response.make_conditional(request)
    return response


def media_type(name: str) -> str:
    """Which kind of file `name` is by its ending, as Content-Type has it."""
    return _MEDIA_TYPES[name.rpartition(".")[2]]


@cache
def content(package: str, path: str) -> bytes:
    """What is in a package's file."""
    return resources.files(package).joinpath(path).read_bytes()


@cache  # the largest file takes milliseconds, and meanwhile the worker answers nobody
def _etag(content: bytes) -> str:
    return blake2b(content, digest_size=16).hexdigest()
