"""Write files completely or not at all, and readable only by their owner and group."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def write(path: Path, content: str | bytes) -> None:
    """Replace the file with `content` in one step, durably, readable by its owner and its group.

    If root writes, the file keeps its owner and group; a new file gets those of its folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            os.fchmod(handle, 0o640)
            if os.geteuid() == 0:
                model = (path if path.exists() else path.parent).stat()
                os.fchown(handle, model.st_uid, model.st_gid)
            stream.flush()
            os.fsync(handle)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Lock `folder` for the block: one process at a time changes its files."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def give_to_folders_owner(path: Path) -> None:
    """If this is root, give `path` to its folder's owner, who has to write it."""
    if os.geteuid() == 0:
        model = path.parent.stat()
        os.chown(path, model.st_uid, model.st_gid, follow_symlinks=False)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
