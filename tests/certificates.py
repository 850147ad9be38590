"""A CA of a test's own, made with openssl as docs/OPERATING.md does it."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple


class Certificate(NamedTuple):
    ca: Path
    certificate: Path
    key: Path


def make_certificate(folder: Path, host: str = "localhost") -> Certificate:
    """A CA, and a certificate for `host` and 127.0.0.1 that it has signed, valid for a day."""
    program = shutil.which("openssl")
    assert program, "the tests need openssl: apt-get install openssl"
    made = Certificate(folder / "ca.crt", folder / "server.crt", folder / "server.key")

    def openssl(*arguments: str | Path) -> None:
        subprocess.run([program, *arguments], check=True, capture_output=True, cwd=folder)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", made.ca, "-days", "1", "-subj", "/CN=Test CA")
    openssl("req", *new_key, "-keyout", made.key, "-out", "server.csr", "-subj", f"/CN={host}")
    (folder / "names").write_text(f"subjectAltName=DNS:{host},IP:127.0.0.1\n")
    signed = ("-CA", made.ca, "-CAkey", "ca.key", "-CAcreateserial", "-days", "1", "-extfile", "names")
    openssl("x509", "-req", "-in", "server.csr", *signed, "-out", made.certificate)
    return made
