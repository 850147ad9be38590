import json
import stat
import threading
from pathlib import Path

import pytest

from emotion_admin.errors import OperatorError
from emotion_admin.logins import Logins
from emotion_admin.roles import ADMIN, DAEMON, HEALTH, OWN_LOGINS
from emotion_admin.secrets import Secrets
from shared.batch import Topics

TOPICS = Topics("emotions")

DAMAGED = (b"", bytes(4096), b'{"clients":[{"username":"jets', b"[]", b"{}", b'{"clients":[{}]}', b"\xff\xfe")
"""Files as a failing disk or an editor leaves them."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "broker" / "dynamic-security.json"


@pytest.fixture
def logins(path: Path) -> Logins:
    return Logins(path, TOPICS)


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    return Secrets(tmp_path, TOPICS)


def test_a_login_is_stored_as_a_hash_and_nowhere_else(path: Path, logins: Logins) -> None:
    password = logins.add("jetson_1")

    (client,) = json.loads(path.read_text())["clients"]
    assert len(password) >= 32
    assert password not in path.read_text()
    assert client.keys() == {"username", "password", "salt", "iterations", "roles"}


def test_nobody_but_owner_and_group_may_read_it(path: Path) -> None:
    Logins(path, TOPICS).add("jetson_1")

    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [each.name for each in path.parent.iterdir()] == ["dynamic-security.json"], "no temporary file is left"


def test_each_has_a_password_of_its_own(logins: Logins) -> None:

    assert logins.add("jetson_1") != logins.add("jetson_2")
    assert logins.names() == ["jetson_1", "jetson_2"]


def test_a_login_that_is_there_is_not_overwritten(path: Path, logins: Logins) -> None:
    logins.add("jetson_1")
    before = path.read_text()

    with pytest.raises(OperatorError, match="--renew"):
        logins.add("jetson_1")

    assert path.read_text() == before


def test_a_new_password_replaces_the_old_one(path: Path, logins: Logins) -> None:
    first = logins.add("jetson_1")
    before = path.read_text()

    assert logins.renew("jetson_1") != first
    assert path.read_text() != before
    assert logins.names() == ["jetson_1"]


def test_a_removed_login_is_gone_and_the_others_stay(logins: Logins) -> None:
    logins.add("jetson_1")
    logins.add("jetson_2")

    assert logins.remove("jetson_1")
    assert not logins.remove("jetson_1")

    assert logins.names() == ["jetson_2"]


@pytest.mark.parametrize("name", ["", "a b", "a/b", "+", "#", "x" * 65, "a\n", "jetson_1\nroot", "ä"])
def test_what_is_no_device_id_has_no_login(path: Path, name: str) -> None:
    with pytest.raises(OperatorError, match="is not a device id"):
        Logins(path, TOPICS).add(name)

    assert not path.exists()


def test_a_device_may_use_its_own_topics(path: Path, logins: Logins) -> None:
    logins.add("aa:bb:cc")

    (role,) = json.loads(path.read_text())["roles"]
    assert role["rolename"] == "aa:bb:cc"
    assert {(acl["acltype"], acl["topic"]) for acl in role["acls"]} == {
        ("publishClientSend", "emotions/aa:bb:cc/batch"),
        ("publishClientSend", "emotions/aa:bb:cc/status"),
        ("publishClientSend", "emotions/aa:bb:cc/info"),
        ("publishClientReceive", "emotions/aa:bb:cc/reply/#"),
        ("subscribeLiteral", "emotions/aa:bb:cc/reply"),
        ("subscribeLiteral", "emotions/aa:bb:cc/reply/+"),
        ("subscribeLiteral", "emotions/aa:bb:cc/reply/#"),
    }


def test_everything_that_no_role_allows_is_denied(path: Path, logins: Logins) -> None:
    logins.add("jetson_1")

    default = json.loads(path.read_text())["defaultACLAccess"]
    assert not default["subscribe"]
    assert not default["publishClientSend"]
    assert not default["publishClientReceive"]


@pytest.mark.parametrize("name", OWN_LOGINS)
def test_the_systems_own_logins_are_no_devices(secrets: Secrets, name: str) -> None:
    secrets.make_missing()
    logins = secrets.logins

    with pytest.raises(OperatorError, match="a login of this system itself"):
        logins.add(name)
    with pytest.raises(OperatorError, match="a login of this system itself"):
        logins.remove(name)
    assert logins.names() == [ADMIN, DAEMON, HEALTH]
    assert logins.devices() == []


def test_two_that_add_at_once_both_stay(path: Path) -> None:
    names = [f"jetson_{number}" for number in range(20)]
    threads = [threading.Thread(target=Logins(path, TOPICS).add, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Logins(path, TOPICS).names() == sorted(names)


def test_what_is_missing_is_made_once(secrets: Secrets) -> None:

    made = secrets.make_missing()
    before = {path: path.read_bytes() for path in made}

    assert made == [
        secrets.dynamic_security,
        *(secrets.daemon_password, secrets.health_options, secrets.admin_password, secrets.tokens),
    ]
    assert secrets.make_missing() == []
    assert {path: path.read_bytes() for path in made} == before
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o640 for path in made)


def test_a_lost_password_of_the_daemon_is_made_anew_and_the_devices_stay(secrets: Secrets) -> None:
    secrets.make_missing()
    secrets.logins.add("jetson_1")
    lost = secrets.daemon_password.read_text()
    secrets.daemon_password.unlink()

    assert secrets.make_missing() == [secrets.dynamic_security, secrets.daemon_password]
    assert secrets.daemon_password.read_text() != lost
    assert secrets.logins.devices() == ["jetson_1"]


def test_a_change_that_is_under_way_keeps_another_waiting(path: Path, logins: Logins) -> None:
    other = threading.Thread(target=Logins(path, TOPICS).add, args=("jetson_2",))
    with logins.locked():
        logins.add("jetson_1")
        other.start()
        other.join(0.3)

        assert logins.names() == ["jetson_1"]
    other.join()
    assert logins.names() == ["jetson_1", "jetson_2"]


def test_roles_of_an_earlier_version_or_of_another_prefix_are_replaced(path: Path, secrets: Secrets) -> None:
    secrets.make_missing()
    secrets.logins.add("jetson_1")
    other = Secrets(secrets.folder, Topics("site/a"))

    assert other.make_missing() == [secrets.dynamic_security]
    assert other.make_missing() == []
    assert "site/a/jetson_1/batch" in path.read_text()
    assert "emotions/" not in path.read_text()


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_is_a_sentence_and_stays_as_it_is(secrets: Secrets, content: bytes) -> None:
    secrets.make_missing()
    secrets.dynamic_security.write_bytes(content)

    for read in (secrets.make_missing, secrets.logins.names, lambda: secrets.logins.add("jetson_1")):
        with pytest.raises(OperatorError, match=r"logins in .*/dynamic-security.json are damaged: restore an intact"):
            read()

    assert secrets.dynamic_security.read_bytes() == content


def test_a_password_file_with_another_kind_of_hash_changes_nothing(secrets: Secrets) -> None:
    secrets.make_missing()
    before = secrets.dynamic_security.read_bytes()
    passwords = secrets.dynamic_security.with_name("passwords")
    passwords.write_text("jetson_1:$6$salt$hash\n")

    with pytest.raises(OperatorError, match=r"'jetson_1' is of another kind: delete that line"):
        secrets.make_missing()
    assert secrets.dynamic_security.read_bytes() == before
