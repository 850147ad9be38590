"""A CA of a test's own, made with openssl as docs/operate/compose.md does it."""

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

_CA_CONFIG = """
[ca]
default_ca = test
[test]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
"""
_CA_EXTENSIONS = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Certificate(NamedTuple):
    ca: Path
    certificate: Path
    key: Path


def make_certificate(folder: Path, host: str = "localhost") -> Certificate:
    """A CA, and a certificate for `host` and 127.0.0.1 that it has signed, valid for a day."""
    return Authority(folder).sign(f"subjectAltName=DNS:{host},IP:127.0.0.1", name=host)


class Authority:
    """A CA whose key is in `folder`; with `issuer`, an intermediate CA below that one."""

    def __init__(self, folder: Path, *, issuer: "Authority | None" = None, begins: float = 0, ends: float = 1) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self.certificate = folder / "ca.crt"
        (folder / "ca.conf").write_text(_CA_CONFIG)
        (folder / "index.txt").touch()
        self._openssl("req", *_NEW_KEY, "-keyout", "ca.key", "-out", "ca.csr", "-subj", f"/CN=Test CA {folder.name}")
        if issuer is None:
            own = ("-selfsign", "-keyfile", "ca.key")
            self._issue("ca.csr", self.certificate, _CA_EXTENSIONS, *own, begins=begins, ends=ends)
        else:
            issuer._issue(folder / "ca.csr", self.certificate, _CA_EXTENSIONS, begins=begins, ends=ends)

    def sign(
        self,
        extensions: str = "subjectAltName=DNS:localhost",
        *,
        name: str = "localhost",
        begins: float = 0,
        ends: float = 1,
    ) -> Certificate:
        """Sign a certificate that begins and ends so many days from now."""
        made = Certificate(self.certificate, self._folder / "server.crt", self._folder / "server.key")
        self._openssl("req", *_NEW_KEY, "-keyout", made.key, "-out", "server.csr", "-subj", f"/CN={name}")
        self._issue(self._folder / "server.csr", made.certificate, extensions, begins=begins, ends=ends)
        return made

    def _issue(self, request: str | Path, to: Path, extensions: str, *options: str, begins: float, ends: float) -> None:
        (self._folder / "extensions").write_text(f"{extensions}\n")
        signer = options or ("-cert", "ca.crt", "-keyfile", "ca.key")
        dates = ("-startdate", _date(begins), "-enddate", _date(ends))
        files = ("-in", request, "-out", to, "-extfile", "extensions", "-notext")
        self._openssl("ca", "-config", "ca.conf", "-batch", *signer, *dates, *files)

    def _openssl(self, *arguments: str | Path) -> None:
        program = shutil.which("openssl")
        assert program, "the tests need openssl: apt-get install openssl"
        done = subprocess.run([program, *arguments], check=False, capture_output=True, text=True, cwd=self._folder)
        assert done.returncode == 0, done.stderr


def _date(days: float) -> str:
    """The time so many days from now; 0 is a minute ago, so that a clock that differs a little does no harm."""
    return f"{datetime.now(UTC) + timedelta(days=days, minutes=-1):%Y%m%d%H%M%SZ}"
