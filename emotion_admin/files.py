"""Files that must never be half written, nor be readable by everybody."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def write(path: Path, content: str | bytes) -> None:
    """Replace the file by `content` in one step, durably, readable by its owner and its group.

    Where root writes, owner and group stay those of the file before, or become those of its folder.
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
    """One process at a time reads and writes what is in `folder`."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def give_to_folders_owner(path: Path) -> None:
    """Where root made `path`, it belongs to its folder's owner from now on, who has to be able to write it."""
    if os.geteuid() == 0:
        model = path.parent.stat()
        os.chown(path, model.st_uid, model.st_gid, follow_symlinks=False)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
