"""Check a certificate chain as a device does, with openssl, and install or remove the broker's certificate and key."""

import binascii
import re
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from emotion_admin.errors import OperatorError
from emotion_admin.files import write
from emotion_admin.secrets import Secrets

CA_FOLLOWS = "The devices' CA:"
"""The line of standard input that separates certificate and key from the CA certificates that the devices have."""

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_NAME = re.compile(r"(?:DNS|IP Address):([^,\s]+)")
_VERIFY_ERROR = re.compile(r"error \d+ at (\d+) depth lookup: (.+)")
_NO_ISSUER = "unable to get local issuer certificate"
_OPENSSL_SECONDS = 30
_EXTENSIONS = "subjectAltName,authorityInfoAccess"
_SECURITY_LEVEL = "2"  # OpenSSL's level on Debian, Ubuntu and JetPack: no RSA key below 2,048 bits, no SHA-1


class Certificate(NamedTuple):
    """The first certificate of a chain that a device accepts.

    `missing_issuer` names the issuer if the chain does not contain it and this machine does not know it either: a CA of
    your own, or an intermediate CA without which no device gets in.
    """

    not_after: str
    names: tuple[str, ...]
    missing_issuer: str = ""


class _Content(NamedTuple):
    not_before: str
    not_after: str
    subject: str
    issuer: str
    names: tuple[str, ...]
    has_issuer_address: bool


def install(secrets: Secrets, pem: str) -> Certificate:
    """Install the key, the certificate and its intermediate CAs, all in `pem`. Raises OperatorError.

    After the line CA_FOLLOWS `pem` may contain the CA certificates that the devices have. If the file has no issuer of
    the certificate, that one is installed with it: doctor then sees to which CA the chain leads.
    """
    text, has_cas, cas = pem.replace("\r\n", "\n").partition(f"{CA_FOLLOWS}\n")
    certificates = split(text)
    keys = [match[0] + "\n" for match in _BLOCK.finditer(text) if match[1].endswith("PRIVATE KEY")]
    if not certificates or len(keys) != 1:
        raise OperatorError("expected a certificate and one private key, both as PEM, text that begins with -----BEGIN")
    if has_cas and not split(cas):
        raise OperatorError("the file of the devices' CA has no certificate as PEM")
    _check_key(certificates, keys[0])
    checked = check(certificates, split(cas))
    if len(certificates) == 1:
        certificates += [ca for ca in split(cas) if _is_issuer(ca, certificates[0])][:1]
    write(secrets.key, keys[0])
    write(secrets.certificate, "".join(certificates))
    return checked


def remove(secrets: Secrets) -> None:
    """Delete certificate and key, if they exist."""
    secrets.certificate.unlink(missing_ok=True)
    secrets.key.unlink(missing_ok=True)


def split(pem: str) -> list[str]:
    """Return the certificates in a text, whatever its white space is. Raises OperatorError."""
    try:
        return [
            ssl.DER_cert_to_PEM_cert(binascii.a2b_base64("".join(match[2].split()), strict_mode=True))
            for match in _BLOCK.finditer(pem)
            if match[1] == "CERTIFICATE"
        ]
    except binascii.Error as error:
        raise OperatorError(f"a certificate cannot be read: {error}") from error


def check_pair(certificate: str, key: str) -> None:
    """Check that both belong together, and the dates of the whole chain. Raises OperatorError.

    The chain itself was checked when it was installed, with the CA that the devices have.
    """
    certificates = split(certificate)
    _check_key(certificates, key)
    for each in certificates:
        _check_dates(_read(each))


def check(certificates: Sequence[str], cas: Sequence[str] = ()) -> Certificate:
    """Check names, dates, chain and purpose of the chain that a broker sends. Raises OperatorError.

    `cas` are the certificates that the devices have. Without them, the chain may also end at a CA of this machine, or
    at one that it contains.
    """
    if not certificates:
        raise OperatorError("there is no certificate as PEM")
    leaf = _read(certificates[0])
    _check_dates(leaf)
    if not leaf.names:
        raise OperatorError(
            "the certificate has no name that devices look at: put the DNS names or IP addresses by which they reach "
            "the broker into subjectAltName"
        )
    missing_issuer = _check_chain(certificates, cas, leaf)
    return Certificate(leaf.not_after, leaf.names, missing_issuer)


def _check_dates(content: _Content) -> None:
    if time.time() < ssl.cert_time_to_seconds(content.not_before):
        raise OperatorError(f"the certificate is not valid before {content.not_before}, and it is {_now()}")
    if time.time() > ssl.cert_time_to_seconds(content.not_after):
        raise OperatorError(f"the certificate has expired: it was valid until {content.not_after}, and it is {_now()}")


def _check_chain(certificates: Sequence[str], cas: Sequence[str], leaf: _Content) -> str:
    """Return the issuer's name if only the devices can tell whether they know it."""
    rest = certificates[1:]
    if cas:
        error = _verify(certificates, "-no-CApath", "-no-CAstore", CAfile=cas, untrusted=rest)
        if error:
            raise OperatorError(f"devices with this CA refuse the certificate: {error}. {_advice(error, leaf)}")
        return ""
    if not _verify(certificates, untrusted=rest):
        return ""
    error = _verify(certificates, "-partial_chain", trusted=rest or certificates)
    is_alone = not rest and leaf.issuer != leaf.subject
    if is_alone and not error and leaf.has_issuer_address:  # an issuer that publishes its certificate is no private CA
        error = _NO_ISSUER
    if error:
        raise OperatorError(f"devices refuse the certificate: {error}. {_advice(error, leaf)}")
    return leaf.issuer if is_alone else ""


def _is_issuer(ca: str, certificate: str) -> bool:
    return ca != certificate and not _verify([certificate], "-partial_chain", trusted=[ca])


def _advice(error: str, leaf: _Content) -> str:
    if _NO_ISSUER in error:
        return (
            f"The file lacks the certificate of its issuer, {leaf.issuer}: use the full chain (certbot: fullchain.pem)"
        )
    return "Get another certificate"


def _read(certificate: str) -> _Content:
    text = _openssl(
        ["x509", "-noout", "-startdate", "-enddate", "-subject", "-issuer", "-nameopt", "RFC2253", "-ext", _EXTENSIONS],
        certificate,
    )
    fields = dict(
        line.split("=", 1) for line in text.splitlines() if re.match(r"(notBefore|notAfter|subject|issuer)=", line)
    )
    if len(fields) != 4:
        raise OperatorError("the certificate cannot be read: it is damaged, or not a certificate")
    return _Content(
        fields["notBefore"],
        fields["notAfter"],
        fields["subject"],
        fields["issuer"],
        tuple(_NAME.findall(text)),
        "CA Issuers - URI:" in text,
    )


def _verify(certificates: Sequence[str], *options: str, **files: Iterable[str]) -> str:
    """Return why openssl refuses the first certificate, "" if it accepts it. `files` are options with certificates."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["verify", "-purpose", "sslserver", "-auth_level", _SECURITY_LEVEL, *options]
        for name, content in files.items():
            if text := "".join(content):
                Path(folder, name).write_text(text)
                arguments += [f"-{name}", str(Path(folder, name))]
        said = _openssl(arguments, certificates[0])
    if "OK" in said.split():
        return ""
    match = _VERIFY_ERROR.search(said)
    if match is None:
        return said.strip() or "openssl gives no reason"
    return match[2] if match[1] == "0" else f"{match[2]}, in number {int(match[1]) + 1} of the chain"


def _openssl(arguments: list[str], certificate: str) -> str:
    """Return what openssl prints, errors included. Raises OperatorError."""
    try:
        done = subprocess.run(
            ["openssl", *arguments],
            input=certificate,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=_OPENSSL_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise OperatorError("checking a certificate needs the program openssl: apt-get install openssl") from error
    return done.stdout


def _check_key(certificates: list[str], key: str) -> None:
    if "ENCRYPTED" in key:
        raise OperatorError("the private key is encrypted, so the broker cannot read it: decrypt it first")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pair.pem")
        path.touch(mode=0o600)
        path.write_text("".join([key, *certificates]))
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
        except ssl.SSLError as error:
            raise OperatorError(
                f"certificate and key do not match, or one of them cannot be read: {error.reason or error}. The "
                "server's certificate must be the first in its file"
            ) from error


def _now() -> str:
    return f"{datetime.now(UTC):%b %d %H:%M:%S %Y} GMT"
