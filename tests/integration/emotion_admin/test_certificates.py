import stat
import subprocess
from pathlib import Path

import pytest

from emotion_admin import certificates
from emotion_admin.errors import OperatorError
from emotion_admin.secrets import Secrets
from tests.certificates import Certificate, make_certificate

pytestmark = pytest.mark.program


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    return Secrets(tmp_path / "secrets")


@pytest.mark.parametrize("key_first", [True, False])
def test_certificate_and_key_are_put_in_place_in_any_order(
    made: Certificate, secrets: Secrets, key_first: bool
) -> None:
    texts = [made.key.read_text(), made.certificate.read_text() + made.ca.read_text()]

    certificates.install(secrets, "".join(texts if key_first else reversed(texts)))

    assert secrets.key.read_text() == made.key.read_text()
    assert secrets.certificate.read_text() == made.certificate.read_text() + made.ca.read_text()
    assert stat.S_IMODE(secrets.key.stat().st_mode) == 0o640


def test_a_key_of_another_certificate_is_refused(made: Certificate, secrets: Secrets, tmp_path: Path) -> None:
    other = make_certificate(tmp_path)

    with pytest.raises(OperatorError, match="do not match"):
        certificates.install(secrets, made.certificate.read_text() + other.key.read_text())

    assert not secrets.certificate.exists()


@pytest.mark.parametrize("text", ["", "certificate only", "key only", "two keys", "no PEM"])
def test_half_of_it_is_refused(made: Certificate, secrets: Secrets, text: str) -> None:
    parts = {"certificate only": made.certificate.read_text(), "key only": made.key.read_text()}
    parts["two keys"] = parts["certificate only"] + 2 * parts["key only"]

    with pytest.raises(OperatorError, match="a certificate and one private key"):
        certificates.install(secrets, parts.get(text, text))


def test_an_encrypted_key_is_refused(made: Certificate, secrets: Secrets) -> None:
    encrypted = subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", made.key, "-passout", "pass:secret"], check=True, capture_output=True
    ).stdout.decode()

    with pytest.raises(OperatorError, match="encrypted"):
        certificates.install(secrets, made.certificate.read_text() + encrypted)


def test_it_can_be_taken_away(made: Certificate, secrets: Secrets) -> None:
    certificates.install(secrets, made.certificate.read_text() + made.key.read_text())

    certificates.remove(secrets)
    certificates.remove(secrets)

    assert not secrets.certificate.exists()
    assert not secrets.key.exists()
