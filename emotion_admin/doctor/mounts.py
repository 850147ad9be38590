"""On which file system a file lies, from the text of /proc/self/mountinfo. Pure."""

import re
from typing import NamedTuple

_NETWORK = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "ocfs2", "gfs2", "beegfs")
)
_NETWORK_IN_USERSPACE = frozenset(
    ("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.s3fs", "fuse.rclone", "fuse.juicefs")
)
_PERHAPS_SHARED = frozenset(("virtiofs", "vboxsf", "vmhgfs", "prl_fs", "fakeowner"))
"""A folder of the machine that this virtual machine runs on."""

_READ_ONLY = frozenset(("ro", "emergency_ro"))
"""The second is what ext4 says since it has found its disk faulty; `statvfs` does not tell that."""


class Mount(NamedTuple):
    """A mount: where, the kernel's name of the file system, and whether nobody can write there."""

    point: str
    kind: str
    is_read_only: bool = False

    @property
    def is_network(self) -> bool:
        """Whether other machines may write there: they do not share the memory that SQLite's -shm file is."""
        return self.kind in _NETWORK or self.kind in _NETWORK_IN_USERSPACE

    @property
    def may_be_shared(self) -> bool:
        """Whether nobody can tell from here who else writes there."""
        return self.kind in _PERHAPS_SHARED or self.kind.startswith("fuse.")


def mount_of(path: str, mountinfo: str) -> Mount | None:
    """The mount that holds the absolute `path`, in which there is no symbolic link; None where the text has none."""
    found = None
    for mount in map(_mount, mountinfo.splitlines()):
        if mount is None or not _holds(mount.point, path):
            continue
        if found is None or len(mount.point) >= len(found.point):  # of two on one point, the later covers the earlier
            found = mount
    return found


def _holds(point: str, path: str) -> bool:
    return point == "/" or path == point or path.startswith(point + "/")


def _mount(line: str) -> Mount | None:
    """Fields as in proc(5): the fifth is the mount point, the first behind the lone hyphen the type.

    The sixth and the third behind the hyphen are options, of the mount and of the file system.
    """
    before, hyphen, behind = line.partition(" - ")
    fields, types = before.split(" "), behind.split(" ")
    if not hyphen or len(fields) < 6:
        return None
    point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
    options = {option for text in (fields[5], *types[2:3]) for option in text.split(",")}
    return Mount(point, types[0], is_read_only=not _READ_ONLY.isdisjoint(options))
