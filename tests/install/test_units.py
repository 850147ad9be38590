"""deploy/systemd, as far as that can be done without a systemd that runs; `in_container` does the rest."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from emotion_admin.logins import Logins
from emotion_admin.roles import DAEMON
from shared.batch import Topics
from shared.settings import Settings
from tests.brokers import Broker, find_plugin
from tests.certificates import make_certificate
from tests.faults.intruders import Intruder
from tests.processes import ROOT
from tests.waiting import accepts_connections, free_port, wait_until

SHIPPED = ROOT / "deploy" / "systemd"
UNITS = ("emotion-daemon.service", "emotion-api.service")
EXPOSURE = 20
"""In tenths: systemd calls 2.0 OK, and 9.6 what a unit has that says nothing about it."""


def systemd_analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    assert program, "the tests need systemd-analyze: apt-get install systemd"
    return subprocess.run([program, "--no-pager", *arguments], capture_output=True, text=True, check=False)


def check_exposure(unit: Path, threshold: int) -> None:
    """Check that systemd rates the unit's exposure no higher than `threshold`, in tenths."""
    finished = systemd_analyze("security", "--offline=true", f"--threshold={threshold}", str(unit))
    assert finished.returncode == 0, finished.stdout + finished.stderr


def check_understood(unit: Path) -> None:
    """Check that systemd has no complaint about the unit."""
    finished = systemd_analyze("verify", "--man=no", str(unit))
    about_ours = [line for line in finished.stderr.splitlines() if "emotion-" in line]
    assert (finished.returncode, about_ours) == (0, []), finished.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_gives_away_little(unit: str) -> None:
    check_exposure(SHIPPED / unit, EXPOSURE)


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_understands_a_unit(unit: str, tmp_path: Path) -> None:
    text = (SHIPPED / unit).read_text().replace("/opt/emotion-analytics/.venv/bin", os.path.dirname(sys.executable))
    (tmp_path / unit).write_text(text.replace("/opt/emotion-analytics", str(ROOT)))

    check_understood(tmp_path / unit)


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_names_a_page_that_is_installed(unit: str) -> None:
    parts = re.search(r"^PARTS=\((.*?)\)$", (ROOT / "scripts" / "install").read_text(), re.DOTALL | re.MULTILINE)
    page = re.search(r"^Documentation=file:///opt/emotion-analytics/(.+)$", (SHIPPED / unit).read_text(), re.MULTILINE)

    assert parts
    assert page
    assert (ROOT / page[1]).is_file()
    assert page[1].split("/")[0] in parts[1].split()


def test_every_setting_in_units_and_settings_is_one(tmp_path: Path) -> None:
    texts = [(SHIPPED / name).read_text() for name in (*UNITS, "settings")]
    names = {name for text in texts for name in re.findall(r"\b(EMOTION_\w+)=", text)}

    unknown = Settings.from_environ(dict.fromkeys(names, "")).unknown

    assert len(names) > 5
    assert unknown == ()


def test_the_settings_work_as_they_are_installed() -> None:
    lines = [line for line in (SHIPPED / "settings").read_text().splitlines() if line and not line.startswith("#")]

    settings = Settings.from_environ(dict(line.split("=", 1) for line in lines))

    assert settings.database_url == "sqlite:////var/lib/emotion-analytics/emotion.db"


def test_the_broker_has_the_rules_and_limits_of_docker_compose() -> None:
    of_the_place = r"listener|include_dir|plugin|persistence_location|autosave_interval|log_dest"

    def rules(path: Path) -> set[str]:
        lines = path.read_text().splitlines()
        return {line for line in lines if line and not line.startswith("#") and not re.match(of_the_place, line)}

    assert rules(SHIPPED / "mosquitto.conf") == rules(ROOT / "mosquitto.conf")


def gate(folder: Path, settings: dict[str, str]) -> tuple[str, str]:
    """Return the rules that the script gives to nft, and what it says."""
    (folder / "nft").write_text("#!/bin/sh\ncat\n")
    (folder / "nft").chmod(0o755)
    environment = os.environ | settings | {"PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", SHIPPED / "gate"], env=environment, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    ("device", "address", "limits"),
    [
        ("", "", {"131072 bytes/second", "2097152 bytes/second", "200/second"}),
        ("5000", "0", {"5000 bytes/second"}),
        ("0", "", {"2097152 bytes/second", "200/second"}),
        ("0", "0", set()),
    ],
)
def test_the_settings_limit_what_a_device_and_an_address_may_send(
    device: str, address: str, limits: set[str], tmp_path: Path
) -> None:
    rules, said = gate(tmp_path, {"DEVICE_BYTES_PER_SECOND": device, "ADDRESS_BYTES_PER_SECOND": address})

    assert set(re.findall(r"limit rate over (\S+(?: bytes/second)?)", rules)) == limits
    assert rules.count("{") == rules.count("}")
    assert said == ""


@pytest.mark.parametrize("value", ["1e6", "128k", "-1", "1.5", "5 000"])
@pytest.mark.parametrize(
    ("name", "default"), [("DEVICE_BYTES_PER_SECOND", "131072"), ("ADDRESS_BYTES_PER_SECOND", "2097152")]
)
def test_the_gate_refuses_what_is_no_whole_number(name: str, default: str, value: str, tmp_path: Path) -> None:
    rules, said = gate(tmp_path, {name: value})

    assert said.startswith(f"{name} is '{value}', but it is a whole number")
    assert said.count("\n") == 1
    assert f"limit rate over {default} bytes/second" in rules


class Site:
    """The broker's configuration on free ports, included by Debian's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.tls_port = free_port(), free_port()
        logins = Logins(folder / "dynamic-security.json", Topics("emotions"))
        self.password = logins.add("jetson_1")
        self.daemon_password = logins.renew(DAEMON)

    def configuration(self) -> Path:
        included = self.folder / "conf.d"
        included.mkdir()
        places = {
            "/etc/emotion-analytics/secrets/broker": str(self.folder),
            "/opt/emotion-analytics/mosquitto_dynamic_security.so": str(find_plugin()),
            "/run/mosquitto": str(self.folder),
            "listener 1883": f"listener {self.port}",
            "listener 8883": f"listener {self.tls_port}",
        }
        for name in ("mosquitto.conf", "mosquitto-tls.conf"):
            text = (SHIPPED / name).read_text()
            for place, here in places.items():
                text = text.replace(place, here)
            (included / name).write_text(text)
        # Debian 13's /etc/mosquitto/mosquitto.conf; Debian 12's has a pid_file, too. "user root" as in tests.brokers.
        main = self.folder / "mosquitto.conf"
        main.write_text(
            f"pid_file {self.folder}/mosquitto.pid\npersistence true\npersistence_location {self.folder}/\n"
            f"log_dest file {self.folder}/mosquitto.log\nuser root\ninclude_dir {included}\n"
        )
        return main

    def broker(self, *, tls: bool) -> Broker:
        """Return the address for a test's client: host and port."""
        return cast(Broker, SimpleNamespace(host="127.0.0.1", port=self.tls_port if tls else self.port))

    def publishes(self, *options: str) -> bool:
        """Return True if a batch is acknowledged."""
        command = ("mosquitto_pub", "-V", "5", "-q", "1", "-i", "jetson_1", "-t", "emotions/jetson_1/batch", "-m", "{}")
        return subprocess.run([*command, *options], capture_output=True, timeout=15, check=False).returncode == 0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    make_certificate(tmp_path)
    program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    assert program, "the tests need Mosquitto: apt-get install mosquitto"
    with (tmp_path / "stderr").open("wb") as stream:
        process = subprocess.Popen([program, "-c", site.configuration()], stderr=stream)
    try:
        wait_until(lambda: accepts_connections("127.0.0.1", site.port), what="Mosquitto listens")
        yield site
    finally:
        process.kill()
        process.wait()


def test_the_broker_lets_in_a_login_and_nobody_else(site: Site) -> None:
    port = ("-p", str(site.port))

    assert site.publishes(*port, "-u", "jetson_1", "-P", site.password)
    assert not site.publishes(*port)
    assert not site.publishes(*port, "-u", "jetson_1", "-P", "wrong")


def test_the_tls_listener_asks_for_the_same_login(site: Site) -> None:
    port = ("-h", "localhost", "-p", str(site.tls_port))
    tls = ("--cafile", str(site.folder / "ca.crt"))

    assert site.publishes(*port, *tls, "-u", "jetson_1", "-P", site.password)
    assert not site.publishes(*port, *tls)
    assert not site.publishes(*port, "-u", "jetson_1", "-P", site.password)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_a_device_that_takes_the_daemon_s_client_id_destroys_nothing(site: Site, tls: bool) -> None:
    daemon = ("-c", "-x", "3600", "-i", DAEMON, "-u", DAEMON, "-P", site.daemon_password)
    listen = ("mosquitto_sub", "-V", "5", *daemon, "-p", str(site.port), "-q", "1", "-t", "emotions/+/batch")
    wait_until(
        lambda: subprocess.run([*listen, "-E"], capture_output=True, timeout=15, check=False).returncode == 0,
        what="the daemon has a session",
    )
    assert site.publishes("-p", str(site.port), "-u", "jetson_1", "-P", site.password)

    ca = site.folder / "ca.crt" if tls else None
    with Intruder(site.broker(tls=tls), "jetson_1", site.password, client_id=DAEMON, ca=ca) as thief:
        assert thief.let_in

    waiting = subprocess.run([*listen, "-C", "1", "-W", "10"], capture_output=True, timeout=15, check=False)
    assert waiting.stdout == b"{}\n"


def test_only_this_machine_reaches_the_listener_without_tls(site: Site) -> None:
    another_address = "127.0.0.2"  # of this machine, too, but not the one that the listener has

    assert not accepts_connections(another_address, site.port)
    assert accepts_connections(another_address, site.tls_port)
