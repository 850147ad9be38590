import stat
import subprocess
from pathlib import Path

import pytest

from emotion_admin import certificates
from emotion_admin.doctor.tls import examine_devices_port
from emotion_admin.errors import OperatorError
from emotion_admin.secrets import Secrets
from shared.batch import Topics
from tests.certificates import Authority, Certificate, make_certificate

pytestmark = pytest.mark.program


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    return Secrets(tmp_path / "secrets", Topics("emotions"))


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


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("root"))


def installed(secrets: Secrets, made: Certificate, *chain: Path, ca: Path | None = None) -> certificates.Certificate:
    text = "".join(path.read_text() for path in (made.certificate, *chain, made.key))
    return certificates.install(secrets, text + (f"{certificates.CA_FOLLOWS}\n{ca.read_text()}" if ca else ""))


@pytest.mark.parametrize(
    ("begins", "ends", "said"),
    [(1, 2, "is not valid before .* and it is "), (-2, -1, "has expired: it was valid until ")],
)
def test_a_certificate_of_another_time_is_refused(
    root: Authority, secrets: Secrets, begins: float, ends: float, said: str
) -> None:
    with pytest.raises(OperatorError, match=said):
        installed(secrets, root.sign(begins=begins, ends=ends))

    assert not secrets.certificate.exists()


@pytest.mark.parametrize("extensions", ["keyUsage=digitalSignature", "subjectAltName=email:a@example.com"])
def test_a_certificate_without_a_name_for_devices_is_refused(
    root: Authority, secrets: Secrets, extensions: str
) -> None:
    with pytest.raises(OperatorError, match="subjectAltName"):
        installed(secrets, root.sign(extensions))


def test_a_certificate_that_may_not_be_a_server_s_is_refused(root: Authority, secrets: Secrets) -> None:
    with pytest.raises(OperatorError, match="purpose"):
        installed(secrets, root.sign("subjectAltName=DNS:localhost\nextendedKeyUsage=clientAuth"))


def test_the_chain_is_checked_with_the_ca_that_devices_have(root: Authority, secrets: Secrets, tmp_path: Path) -> None:
    middle = Authority(tmp_path / "middle", issuer=root)
    made = middle.sign("subjectAltName=DNS:broker.example.com,IP:192.0.2.10")

    with pytest.raises(
        OperatorError, match=r"lacks the certificate of its issuer, CN=Test CA middle: use the full chain"
    ):
        installed(secrets, made, ca=root.certificate)
    checked = installed(secrets, made, middle.certificate, ca=root.certificate)

    assert checked.names == ("broker.example.com", "192.0.2.10")
    assert checked.missing_issuer == ""
    assert secrets.certificate.read_text() == made.certificate.read_text() + middle.certificate.read_text()


def test_the_ca_of_a_leaf_alone_is_installed_with_it(root: Authority, secrets: Secrets, tmp_path: Path) -> None:
    """doctor cannot see which CA the devices have."""
    other, made = Authority(tmp_path / "other"), root.sign(ends=32)
    (tmp_path / "ca.crt").write_text(other.certificate.read_text() + root.certificate.read_text())
    installed(secrets, made, ca=tmp_path / "ca.crt")
    found = examine_devices_port(secrets.certificate.read_text())

    assert secrets.certificate.read_text() == made.certificate.read_text() + root.certificate.read_text()
    assert found.level == "ok"


def test_a_certificate_that_is_its_own_ca_is_installed_once(secrets: Secrets, tmp_path: Path) -> None:
    made = self_signed(tmp_path)
    installed(secrets, made, ca=made.certificate)

    assert secrets.certificate.read_text() == made.certificate.read_text()
    assert examine_devices_port(secrets.certificate.read_text()).level == "ok"


def test_without_that_ca_a_missing_issuer_is_named(root: Authority, secrets: Secrets, tmp_path: Path) -> None:
    """The issuer may be the root that devices have, or an intermediate CA."""
    middle = Authority(tmp_path / "middle", issuer=root)

    assert installed(secrets, middle.sign()).missing_issuer == "CN=Test CA middle"
    assert installed(secrets, middle.sign(), middle.certificate).missing_issuer == ""


def test_a_leaf_alone_is_refused_if_its_issuer_is_a_public_ca(root: Authority, secrets: Secrets) -> None:
    made = root.sign("subjectAltName=DNS:localhost\nauthorityInfoAccess=caIssuers;URI:http://ca.example.com/ca.der")

    with pytest.raises(OperatorError, match=r"fullchain\.pem"):
        installed(secrets, made)


def test_an_expired_intermediate_ca_is_refused(root: Authority, secrets: Secrets, tmp_path: Path) -> None:
    middle = Authority(tmp_path / "middle", issuer=root, begins=-2, ends=-1)

    with pytest.raises(OperatorError, match="certificate has expired, in number 2 of the chain"):
        installed(secrets, middle.sign(), middle.certificate)


def self_signed(folder: Path) -> Certificate:
    command = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=h", "-days", "99")
    files = ("-keyout", folder / "key", "-out", folder / "crt", "-addext", "subjectAltName=DNS:h")
    subprocess.run([*command, *files], check=True, capture_output=True)
    return Certificate(folder / "crt", folder / "crt", folder / "key")


def test_a_certificate_that_signs_itself_needs_no_issuer(secrets: Secrets, tmp_path: Path) -> None:
    checked = installed(secrets, self_signed(tmp_path))

    assert (checked.names, checked.missing_issuer) == (("h",), "")


def test_line_ends_of_windows_and_other_white_space_change_nothing(made: Certificate, secrets: Secrets) -> None:
    text = made.certificate.read_text() + made.key.read_text()

    certificates.install(secrets, text.replace("\n", "\r\n"))

    assert secrets.certificate.read_text() == made.certificate.read_text()
    assert certificates.split(made.certificate.read_text().replace("\n", " ")) == [made.certificate.read_text()]


@pytest.mark.parametrize("middle", ["AAAA", "A", "****"])
def test_a_damaged_certificate_is_refused(middle: str) -> None:
    with pytest.raises(OperatorError, match="cannot be read"):
        certificates.check(certificates.split(f"-----BEGIN CERTIFICATE-----\n{middle}\n-----END CERTIFICATE-----\n"))


def test_a_ca_without_a_certificate_is_refused(made: Certificate, secrets: Secrets, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()

    with pytest.raises(OperatorError, match="the file of the devices' CA"):
        installed(secrets, made, ca=tmp_path / "empty")


def test_it_can_be_taken_away(made: Certificate, secrets: Secrets) -> None:
    certificates.install(secrets, made.certificate.read_text() + made.key.read_text())

    certificates.remove(secrets)
    certificates.remove(secrets)

    assert not secrets.certificate.exists()
    assert not secrets.key.exists()
