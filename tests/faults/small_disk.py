"""A disk that is full, or that is for one process; `on_small_disk` runs a test's function on a small one of its own.

A mount needs rights: root has them in a mount namespace of its own, others in a user namespace. In a container that
allows neither, /dev/shm is taken if it is small, which it is under Docker (64 MB).
"""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import ROOT

SIZE = 8 * 2**20
LARGEST_SHARED = 256 * 2**20
SHARED = Path("/dev/shm")

_MOUNT = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec "$@"'


def on_small_disk(folder: Path, module: str, *arguments: str, size: int = SIZE) -> None:
    """Run `python -m module FOLDER arguments…`, where FOLDER, which is `folder` or stands in for it, is soon full.

    `size` is how many bytes it has, unless something stands in.
    """
    program = [sys.executable, "-m", module]
    if _may(*_namespace(), "true"):
        command = [*_namespace(), "sh", "-c", _MOUNT, "sh", str(size), str(folder), *program, str(folder), *arguments]
    else:
        small = shutil.disk_usage(SHARED).total <= LARGEST_SHARED
        assert small, "the tests need a small file system: let them mount one (unshare --mount), or make /dev/shm small"
        command = [*program, str(SHARED), *arguments]
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(run.stdout)
    assert run.returncode == 0, run.stdout[-3_000:]


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Not a byte is free on `folder`'s file system for the block."""
    filler = folder / "filler"
    try:
        with filler.open("wb", buffering=0) as stream:
            for size in (2**16, 2**12, 1):
                write_until_full(stream.fileno(), size)
        yield
    finally:
        filler.unlink()


@contextmanager
def nearly_filled(folder: Path, *, left: float) -> Iterator[None]:
    """Of `folder`'s file system only the share `left` is free for the block."""
    filler, usage = folder / "filler", shutil.disk_usage(folder)
    try:
        with filler.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, usage.free - int(left * usage.total))
        yield
    finally:
        filler.unlink()


@contextmanager
def limited(pid: int, size: int) -> Iterator[None]:
    """The process cannot write beyond `size` bytes of any file for the block, as under `prlimit --fsize`."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def write_until_full(descriptor: int, size: int) -> None:
    chunk = bytes(size)
    while True:
        try:
            os.write(descriptor, chunk)
        except OSError:
            return


def _namespace() -> list[str]:
    program = shutil.which("unshare")
    assert program, "the tests need unshare: apt-get install util-linux"
    rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return [program, *rights, "--mount"]


def _may(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
