"""A real PgBouncer in transaction mode on a free loopback port, in front of a test's PostgreSQL."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import make_url

from tests.waiting import accepts_connections, free_port, wait_until

_CONFIGURATION = """
[databases]
* = host={server.host} port={server.port} user={server.username}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
server_round_robin = 1
{more}
"""


@contextmanager
def pooled(url: str, more: str = "") -> Iterator[str]:
    """The URL of the same database through a PgBouncer, which gives transactions to several sessions in turn.

    `more` are lines of its configuration.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "the tests need PgBouncer: apt-get install pgbouncer"
    server, port = make_url(url), free_port()
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    with TemporaryDirectory(prefix="pgbouncer-") as folder:
        configuration = Path(folder, "pgbouncer.ini")
        configuration.write_text(_CONFIGURATION.format(server=server, port=port, more=more))
        if user:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        process = subprocess.Popen([program, "-q", configuration], user=user, cwd=folder, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: accepts_connections("127.0.0.1", port), what="PgBouncer accepts connections")
            yield server.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
        finally:
            process.terminate()
            process.wait(timeout=30)
