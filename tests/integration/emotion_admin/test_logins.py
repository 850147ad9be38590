import stat
import threading
from pathlib import Path

import pytest

from emotion_admin.errors import OperatorError
from emotion_admin.logins import DAEMON, HEALTH, Logins
from emotion_admin.secrets import Secrets


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "broker" / "passwords"


def test_a_login_is_stored_as_a_hash_and_nowhere_else(path: Path) -> None:
    password = Logins(path).add("jetson_1")

    assert len(password) >= 32
    assert password not in path.read_text()
    assert path.read_text().startswith("jetson_1:$7$")


def test_nobody_but_owner_and_group_may_read_it(path: Path) -> None:
    Logins(path).add("jetson_1")

    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [each.name for each in path.parent.iterdir()] == ["passwords"], "no temporary file is left"


def test_each_has_a_password_of_its_own(path: Path) -> None:
    logins = Logins(path)

    assert logins.add("jetson_1") != logins.add("jetson_2")
    assert logins.names() == ["jetson_1", "jetson_2"]


def test_a_login_that_is_there_is_not_overwritten(path: Path) -> None:
    logins = Logins(path)
    logins.add("jetson_1")
    before = path.read_text()

    with pytest.raises(OperatorError, match="--renew"):
        logins.add("jetson_1")

    assert path.read_text() == before


def test_a_new_password_replaces_the_old_one(path: Path) -> None:
    logins = Logins(path)
    first = logins.add("jetson_1")
    before = path.read_text()

    assert logins.renew("jetson_1") != first
    assert path.read_text() != before
    assert logins.names() == ["jetson_1"]


def test_a_removed_login_is_gone_and_the_others_stay(path: Path) -> None:
    logins = Logins(path)
    logins.add("jetson_1")
    logins.add("jetson_2")

    logins.remove("jetson_1")

    assert logins.names() == ["jetson_2"]
    with pytest.raises(OperatorError, match="has no login"):
        logins.remove("jetson_1")


@pytest.mark.parametrize("name", ["", "a b", "a/b", "+", "#", "x" * 65, "a\n", "jetson_1\nroot", "ä"])
def test_what_is_no_device_id_has_no_login(path: Path, name: str) -> None:
    with pytest.raises(OperatorError, match="is not a device id"):
        Logins(path).add(name)

    assert not path.exists()


def test_an_id_that_the_password_file_cannot_hold_is_refused_with_the_reason(path: Path) -> None:
    with pytest.raises(OperatorError, match="':' separates"):
        Logins(path).add("aa:bb:cc")


@pytest.mark.parametrize("name", [DAEMON, HEALTH])
def test_the_systems_own_logins_are_no_devices(tmp_path: Path, name: str) -> None:
    secrets = Secrets(tmp_path)
    secrets.make_missing()
    logins = Logins(secrets.passwords)

    with pytest.raises(OperatorError, match="a login of this system itself"):
        logins.add(name)
    with pytest.raises(OperatorError, match="a login of this system itself"):
        logins.remove(name)
    assert logins.names() == [DAEMON, HEALTH]
    assert logins.devices() == []


def test_two_that_add_at_once_both_stay(path: Path) -> None:
    names = [f"jetson_{number}" for number in range(20)]
    threads = [threading.Thread(target=Logins(path).add, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Logins(path).names() == sorted(names)


def test_what_is_missing_is_made_once(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)

    made = secrets.make_missing()
    before = {path: path.read_bytes() for path in made}

    assert made == [secrets.passwords, secrets.daemon_password, secrets.health_options, secrets.tokens]
    assert secrets.make_missing() == []
    assert {path: path.read_bytes() for path in made} == before
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o640 for path in made)


def test_a_lost_password_of_the_daemon_is_made_anew_and_the_devices_stay(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    secrets.make_missing()
    Logins(secrets.passwords).add("jetson_1")
    lost = secrets.daemon_password.read_text()
    secrets.daemon_password.unlink()

    assert secrets.make_missing() == [secrets.passwords, secrets.daemon_password]
    assert secrets.daemon_password.read_text() != lost
    assert Logins(secrets.passwords).devices() == ["jetson_1"]
