"""Install or remove the broker's certificate and key."""

import re
import ssl
import tempfile
from pathlib import Path

from emotion_admin.errors import OperatorError
from emotion_admin.files import write
from emotion_admin.secrets import Secrets

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\n.*?-----END \1-----\n?", re.DOTALL)


def install(secrets: Secrets, pem: str) -> None:
    """Install the key, the certificate and its intermediate CAs, all in `pem`. Raises OperatorError."""
    blocks = [(match[1], match[0].rstrip("\n") + "\n") for match in _BLOCK.finditer(pem)]
    certificates = [text for kind, text in blocks if kind == "CERTIFICATE"]
    keys = [text for kind, text in blocks if kind.endswith("PRIVATE KEY")]
    if not certificates or len(keys) != 1:
        raise OperatorError("expected a certificate and one private key, both as PEM")
    if "ENCRYPTED" in keys[0]:
        raise OperatorError("the private key is encrypted, so the broker cannot read it: decrypt it first")
    _check(certificates, keys[0])
    write(secrets.key, keys[0])
    write(secrets.certificate, "".join(certificates))


def remove(secrets: Secrets) -> None:
    """Delete certificate and key, if they exist."""
    secrets.certificate.unlink(missing_ok=True)
    secrets.key.unlink(missing_ok=True)


def _check(certificates: list[str], key: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pair.pem")
        path.touch(mode=0o600)
        path.write_text("".join([key, *certificates]))
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
        except ssl.SSLError as error:
            raise OperatorError(
                f"certificate and key do not match, or one of them cannot be read: {error.reason or error}"
            ) from error
