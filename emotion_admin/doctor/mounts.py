"""The file system of a file, by the text of /proc/self/mountinfo. Pure."""

import re
from typing import NamedTuple

_NETWORK = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "ocfs2", "gfs2", "beegfs")
)
_NETWORK_IN_USERSPACE = frozenset(
    ("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.s3fs", "fuse.rclone", "fuse.juicefs")
)
_OFTEN_WITHOUT_SHARED_MEMORY = frozenset(("fuse.mergerfs", "drvfs", "fuse.grpcfuse"))
"""mergerfs unless it has cache.files, Windows' drives in WSL 1, and folders of a Mac in Docker Desktop."""

_READ_ONLY = frozenset(("ro", "emergency_ro"))
"""ext4 reports the second after it has found its disk faulty; `statvfs` does not tell it."""


class Mount(NamedTuple):
    """A mount point, and the kernel's name of its file system."""

    point: str
    kind: str
    is_read_only: bool = False

    @property
    def is_network(self) -> bool:
        """Return True if other machines may write there: SQLite's -shm file is memory, which they do not share."""
        return self.kind in _NETWORK or self.kind in _NETWORK_IN_USERSPACE

    @property
    def may_lack_shared_memory(self) -> bool:
        """Return True if SQLite's -shm file often cannot be mapped there."""
        return self.kind in _OFTEN_WITHOUT_SHARED_MEMORY


def mount_of(path: str, mountinfo: str) -> Mount | None:
    """Return the mount that holds the absolute `path` without symbolic links; None if the text has none."""
    found = None
    for mount in map(_mount, mountinfo.splitlines()):
        if mount is None or not _holds(mount.point, path):
            continue
        if found is None or len(mount.point) >= len(found.point):  # a later mount covers an earlier one
            found = mount
    return found


def _holds(point: str, path: str) -> bool:
    return point == "/" or path == point or path.startswith(point + "/")


def _mount(line: str) -> Mount | None:
    """Parse a line of proc(5): field 5 is the mount point, and the first after the lone hyphen is the type.

    Field 6 has the mount's options, and the third after the hyphen those of the file system.
    """
    before, hyphen, behind = line.partition(" - ")
    fields, types = before.split(" "), behind.split(" ")
    if not hyphen or len(fields) < 6:
        return None
    point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
    options = {option for text in (fields[5], *types[2:3]) for option in text.split(",")}
    return Mount(point, types[0], is_read_only=not _READ_ONLY.isdisjoint(options))
