"""A real PostgreSQL on a free loopback port, made from the distribution's package, thrown away afterwards."""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from sqlalchemy import create_engine, text

from tests.waiting import free_port, wait_until


def _bin_folder() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    program = shutil.which("initdb")
    assert program, "the tests need PostgreSQL: apt-get install postgresql"
    return Path(program).parent


class PostgreSQL:
    """One server; every call of `new_database` gives an empty database in it."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self._folder = folder
        self._fsync = "on" if durable else "off"
        self._bin = _bin_folder()
        self._count = 0
        self.port = free_port()
        # PostgreSQL refuses to run as root; its package brings a user for it.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            entry = pwd.getpwnam(self._user)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
            for parent in list(folder.parents)[:-2]:
                parent.chmod(parent.stat().st_mode | 0o011)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        data = self._folder / "data"
        if not data.exists():
            self._run(self._bin / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        settings = {"port": self.port, "unix_socket_directories": self._folder, "listen_addresses": "127.0.0.1"}
        options = [f"--{name}={value}" for name, value in {**settings, "fsync": self._fsync}.items()]
        self._process = subprocess.Popen(
            [self._bin / "postgres", "-D", str(data), *options],
            user=self._user,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
        )
        wait_until(self._answers, what="PostgreSQL answers")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # "fast": connected clients are cut off
            self._process.wait(timeout=30)
            self._process = None

    def kill(self) -> None:
        """End it with SIGKILL; its other processes see that and end themselves."""
        if self._process is not None:
            left = psutil.Process(self._process.pid).children()
            self._process.kill()
            self._process.wait()
            self._process = None
            psutil.wait_procs(left, timeout=30)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Its processes stand still during the block, and its connections stay."""
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        processes = [server, *server.children(recursive=True)]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    def limit_file_sizes(self, pid: int, size: str) -> None:
        """The server's process `pid` cannot write beyond `size` bytes of any file; "unlimited" takes that back.

        Raises CalledProcessError where there is no such process.
        """
        program = shutil.which("prlimit")
        assert program, "the tests need prlimit: apt-get install util-linux"
        self._run(program, "--pid", str(pid), f"--fsize={size}:")

    def configure(self, name: str, value: str) -> None:
        """Change a setting of the running server."""
        engine = create_engine(self._url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"ALTER SYSTEM SET {name} = '{value}'"))
            connection.execute(text("SELECT pg_reload_conf()"))
        engine.dispose()

    def new_database(self) -> str:
        self._count += 1
        name = f"emotion_{self._count}"
        engine = create_engine(self._url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self._url(name)

    def promote(self) -> None:
        """Make a standby a primary."""
        self._run(self._bin / "pg_ctl", "promote", "-D", self._folder / "data")

    def copy_from(self, primary: "PostgreSQL") -> None:
        """Become a standby of `primary` at the next start."""
        source = ("-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres")
        self._run(self._bin / "pg_basebackup", *source, "-D", self._folder / "data", "-R", "-c", "fast", "--no-sync")

    def url_on(self, other: "PostgreSQL", url: str) -> str:
        """The URL of this server's database `url` on another server."""
        return url.replace(f":{self.port}/", f":{other.port}/")

    def _url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"

    def _answers(self) -> bool:
        command: list[Path | str] = [self._bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0

    def _run(self, *command: Path | str) -> None:
        subprocess.run(command, check=True, user=self._user, stdout=subprocess.DEVNULL, cwd=self._folder)


@contextmanager
def standby_of(primary: PostgreSQL, *, durable: bool = False) -> Iterator[PostgreSQL]:
    """A running standby for the block."""
    with TemporaryDirectory(prefix="postgresql-") as folder:
        standby = PostgreSQL(Path(folder), durable=durable)
        standby.copy_from(primary)
        standby.start()
        try:
            yield standby
        finally:
            standby.stop()


@contextmanager
def postgresql_server(*, durable: bool = False) -> Iterator[PostgreSQL]:
    """Running for the block; a commit reaches the disk only if it is `durable`.

    Its folder is none of pytest's: those become private again whenever another run of pytest starts, and a server that
    restarts itself could not go into its own any more.
    """
    with TemporaryDirectory(prefix="postgresql-") as folder:
        server = PostgreSQL(Path(folder), durable=durable)
        server.start()
        try:
            yield server
        finally:
            server.stop()
