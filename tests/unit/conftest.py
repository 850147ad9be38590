"""A unit test opens no socket and no file: one that does fails."""

import sys
import zoneinfo
from collections.abc import Iterator
from pathlib import Path

import pytest

LIBRARIES = (sys.prefix, sys.base_prefix, *zoneinfo.TZPATH)

_running = False


@pytest.fixture(autouse=True)
def _nothing_is_opened() -> Iterator[None]:
    global _running
    _running = True
    yield
    _running = False


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    """Python calls this before whatever the interpreter opens, imports included."""
    if _running and (event == "socket.__new__" or (event == "open" and _is_ours(arguments[0]))):
        raise AssertionError(f"a unit test opens {arguments}: it belongs to tests/integration")


def _is_ours(path: object) -> bool:
    """Return True if a file is neither a library's, nor code, nor one of hypothesis' examples."""
    if not isinstance(path, str | Path):
        return False
    return (
        not str(path).startswith(LIBRARIES)
        and Path(path).suffix not in (".py", ".pyc")
        and ".hypothesis" not in Path(path).parts
    )


sys.addaudithook(_refuse)
