"""From a clone to a device on the dashboard, and what its containers may do."""

import json
import re
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from emotion_api.web.pages import DASHBOARD_ASSETS
from emotion_device import Publisher
from tests.brokers import Broker
from tests.certificates import Authority, make_certificate
from tests.compose.project import SERVICES, Project, clone, project
from tests.faults.intruders import Hoarder, Intruder
from tests.processes import ROOT
from tests.waiting import wait_until

SUMMARY = "/api/dashboard/summary?device_id=jetson_1"

USERS = {"gate": "99:99", "mosquitto": "1883:1883", "daemon": "10001:10001", "api": "10002:10001"}


def test_a_device_that_was_added_publishes_and_is_in_the_summary(site: Project) -> None:
    site.publish("jetson_1", 123.5)

    wait_until(lambda: site.happy("jetson_1") == 123.5, what="the batch is in the summary")
    assert site.summary("jetson_1")["device_name"] == "Entrance Camera"


def test_what_a_new_device_is_shown_works_as_it_stands(site: Project) -> None:
    shown = site.add_device("shown")
    command = shown[shown.index("mosquitto_pub") :]

    subprocess.run(["bash", "-ec", command], check=True, timeout=30)

    wait_until(lambda: site.happy("shown") == 123.5, what="the batch is in the summary")


def test_a_camera_is_online_while_it_publishes_and_its_minutes_are_kept(site: Project) -> None:
    site.add_device("camera_7")  # of its own: the timestamps of the other tests are older

    def camera() -> Any:
        return {each["device_id"]: each for each in site.get("/api/devices")["devices"]}.get("camera_7", {})

    with Publisher("camera_7", host=site.host, port=site.port, password=site.passwords["camera_7"]) as publisher:
        publisher.publish({"1": {"happy": 1.0}})
        wait_until(lambda: camera().get("online") is True, what="the camera is online")
        assert (camera()["status"], camera()["people_now"]) == ("online", 1)
    wait_until(lambda: camera()["status"] == "offline", what="the camera has said goodbye")

    assert camera()["online"] is False
    points = site.get("/api/dashboard/history?device_id=camera_7")["points"]
    assert max(point["most_people"] for point in points) == 1


def test_the_image_has_the_live_page(site: Project) -> None:
    assert {
        site.status(path) for path in ("/dashboard", *(f"/dashboard/assets/{name}" for name in DASHBOARD_ASSETS))
    } == {200}


def test_a_name_counts_at_once(site: Project) -> None:
    site.run("scripts/device", "rename", "jetson_1", "Back door")
    renamed = site.summary("jetson_1")["device_name"]
    site.run("scripts/device", "rename", "jetson_1", "Entrance Camera")

    assert renamed == "Back door"
    assert "Entrance Camera" in site.run("scripts/device", "list")


def test_everything_is_healthy_and_nothing_has_more_rights_than_it_needs(site: Project) -> None:
    site.up()  # which waits until it is
    for service in SERVICES:
        found = site.inspect(service)
        host = found["HostConfig"]
        assert found["State"]["Health"]["Status"] == "healthy", service
        assert found["Config"]["User"] == USERS[service]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert host["SecurityOpt"] == ["no-new-privileges:true"], service
        assert host["Memory"] > 0, service
        assert host["PidsLimit"] > 0, service
        assert host["RestartPolicy"]["Name"] == "unless-stopped", service
        assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}, service
        assert not host["Privileged"], service


def test_code_in_the_apis_container_cannot_write_the_database(site: Project) -> None:
    attempt = (
        "import sqlite3\n"
        "for statement in ('INSERT INTO device (device_id) VALUES (1)', 'DELETE FROM person_emotion'):\n"
        "    try:\n"
        "        with sqlite3.connect('/data/emotion.db') as connection: connection.execute(statement)\n"
        "    except sqlite3.OperationalError as error: print('refused:', error)\n"
        "try: open('/data/emotion.db', 'ab')\n"
        "except OSError as error: print('refused:', error.strerror)\n"
    )

    assert site.compose("exec", "-T", "api", "python3", "-c", attempt).count("refused: ") == 3


def test_the_containers_have_the_documents(site: Project) -> None:
    printed = site.compose("exec", "-T", "daemon", "python3", "-m", "emotion_admin", "docs").splitlines()
    page = next(line.split()[0] for line in printed if line.endswith(" Troubleshooting"))

    assert "# Troubleshooting" in site.compose("exec", "-T", "daemon", "cat", f"{printed[0]}/{page}")


def test_only_this_machine_reaches_broker_and_api(site: Project) -> None:
    published = site.compose("ps", "--format", "{{.Ports}}")

    assert f"127.0.0.1:{site.port}->1883/tcp" in published
    assert f"127.0.0.1:{site.api_port}->8000/tcp" in published
    assert re.findall(r"([\d.:\[\]]+):\d+->", published) == ["127.0.0.1"] * 2


def test_no_secret_can_be_seen(site: Project) -> None:
    """In the configuration, in a layer of the image, in a log, or among the arguments and variables of a process."""
    site.run("scripts/token", "add", "to_be_seen")
    logins = site.compose("exec", "-T", "mosquitto", "cat", "/secrets/dynamic-security.json")
    found = [
        site.compose("exec", "-T", "api", "cat", "/secrets/api/tokens"),
        site.compose("exec", "-T", "daemon", "cat", "/secrets/daemon/password"),
        site.compose("exec", "-T", "mosquitto", "cat", "/secrets/health-options", "/secrets/admin-password"),
        *(client["password"] for client in json.loads(logins)["clients"]),
    ]
    secrets = {word for text in found for word in re.findall(r"[\w+/=-]{20,}", text)} | set(site.passwords.values())
    site.run("scripts/token", "remove", "to_be_seen", "--last")
    assert len(secrets) >= 4 + len(site.passwords), "the token, the system's own logins and the devices'"

    containers = [site.container(service) for service in SERVICES]
    seen = {
        "docker compose config": site.compose("config"),
        "the image's history": site.run("docker", "history", "--no-trunc", site.name),
        "the image's layers": saved_image(site),
        "the logs": site.logs(),
        "docker inspect": site.run("docker", "inspect", *containers),
        "the process list": "".join(site.run("docker", "top", name, "-eo", "pid,args") for name in containers),
    }
    assert "subscribed to emotions/+/batch" in seen["the logs"]
    assert "emotion_daemon" in seen["the process list"]
    assert {place for place, text in seen.items() if any(secret in text for secret in secrets)} == set()


def saved_image(site: Project) -> str:
    """All layers, as tar files in a tar file."""
    saved = subprocess.run(["docker", "save", site.name], capture_output=True, check=True, timeout=120).stdout
    assert b"emotion_daemon/__main__.py" in saved
    return saved.decode("latin-1")


def test_a_layer_of_the_image_has_neither_secret_nor_compiler(site: Project) -> None:
    listed = site.run("docker", "run", "--rm", site.name, "find", "/secrets", "-type", "f")
    tools = "for tool in gcc cc g++ make pip git; do command -v $tool; done; true"
    found = site.run(
        "docker", "run", "--rm", site.name, "sh", "-c", f"PATH=/opt/venv/bin:/usr/local/bin:/usr/bin; {tools}"
    )

    assert listed == ""
    assert "/opt/venv/bin/pip" not in found
    assert not {Path(each).name for each in found.split()} & {"gcc", "cc", "g++", "make"}


def test_the_api_asks_for_a_token_once_there_is_one(site: Project) -> None:
    """From the moment at which the command has returned: no worker answers by what was before."""
    token = site.run("scripts/token", "add", "dashboard").strip()
    try:
        answers = {each: {site.status(SUMMARY, each) for _ in range(50)} for each in (None, token[:-1], token)}
        assert answers == {None: {401}, token[:-1]: {401}, token: {200}}
        assert site.get("/") == {"status": "ok"}
    finally:
        site.run("scripts/token", "remove", "dashboard", expect=1)
        site.run("scripts/token", "remove", "dashboard", "--last")
    assert {site.status(SUMMARY) for _ in range(50)} == {200}


def test_a_token_that_was_removed_is_refused_from_then_on(site: Project) -> None:
    token, successor = (site.run("scripts/token", "add", name).strip() for name in ("dashboard", "successor"))
    try:
        site.run("scripts/token", "remove", "dashboard")
        answers = {each: {site.status(SUMMARY, each) for _ in range(50)} for each in (token, successor)}
        assert answers == {token: {401}, successor: {200}}
    finally:
        site.run("scripts/token", "remove", "successor", "--last")


def test_docker_starts_an_api_again_whose_tokens_have_changed(site: Project) -> None:
    """It would not, had a signal come through Docker: that counts as stopped by hand."""
    site.run("scripts/token", "add", "dashboard")
    site.run("scripts/token", "remove", "dashboard", "--last")

    site.crash("api")

    wait_until(lambda: site.status(SUMMARY) == 200, pause=1, what="Docker starts the API again after that")


def test_one_container_cannot_read_the_secrets_of_another(site: Project) -> None:
    listed = {
        service: site.compose("exec", "-T", service, "sh", "-c", "find /secrets -type f | sort").split()
        for service in SERVICES
    }

    assert listed == {
        "gate": [],
        "mosquitto": ["/secrets/admin-password", "/secrets/dynamic-security.json", "/secrets/health-options"],
        "daemon": ["/secrets/daemon/password"],
        "api": ["/secrets/api/tokens"],
    }


def test_the_daemon_s_networks_lead_nowhere_else(site: Project) -> None:
    neighbours = set()
    for network in site.inspect("daemon")["NetworkSettings"]["Networks"]:
        (found,) = json.loads(site.run("docker", "network", "inspect", network))
        assert found["Internal"], network
        neighbours |= {each["Name"].split("-")[-2] for each in found["Containers"].values()}

    assert neighbours == {"daemon", "mosquitto", "api"}


def test_a_device_that_is_removed_is_out_at_once(site: Project) -> None:
    site.add_device("removed")
    with Intruder(cast(Broker, site), "removed", site.passwords["removed"], client_id="removed") as device:
        assert device.let_in
        site.run("scripts/device", "remove", "removed")

        wait_until(lambda: device.ended, what="its connection ends")


def test_removing_a_device_ends_its_session_and_its_retained_messages(site: Project) -> None:
    site.add_device("hoarder")
    device = Hoarder(cast(Broker, site), "hoarder", site.passwords["hoarder"])
    device.hoard()
    device.drop()

    site.run("scripts/device", "remove", "hoarder")

    site.add_device("hoarder")
    site.allow_listening("hoarder")
    again = Hoarder(cast(Broker, site), "hoarder", site.passwords["hoarder"])
    assert again.session_present is False
    assert again.heard("emotions/hoarder/#") == []


def test_a_loop_over_devices_adds_each(site: Project) -> None:
    loop = "while read -r id; do scripts/device add $id; done"
    site.run("bash", "-ec", loop, input=b"loop_1\nloop_2\n")

    listed = site.run("scripts/device", "list")
    assert "loop_1" in listed
    assert "loop_2" in listed


def test_with_a_certificate_tls_is_published_and_nothing_else(site: Project, tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    site.run("scripts/tls", "on", str(made.certificate), str(made.key))
    try:
        published = site.compose("ps", "--format", "{{.Ports}}", "gate")
        shown = site.add_device("with_tls")
        site.publish("with_tls", 7.0, ca=made.ca)

        wait_until(lambda: site.happy("with_tls") == 7.0, what="the batch is in the summary")
        assert re.findall(r"->(\d+)/", published) == ["8883"]
        assert 'TLS_CA = "ca.crt"' in shown
        assert f"--cafile {made.ca.name}" in shown
        with pytest.raises(AssertionError, match="mosquitto_pub"):
            site.publish("with_tls", 8.0)
    finally:
        site.run("scripts/tls", "off")
    site.publish("with_tls", 9.0)
    wait_until(lambda: site.happy("with_tls") == 9.0, what="the batch is in the summary")


def test_a_hook_installs_the_renewed_certificate(site: Project, tmp_path: Path) -> None:
    """The hook for certbot in docs/operate/compose.md, and the command that step-ca runs, with another place."""
    page = (ROOT / "docs" / "operate" / "compose.md").read_text()
    (hook,) = re.findall(r"^```sh\n(#!/bin/sh\n.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (step,) = re.findall(r"--exec \"(.*?)\"", page)
    root = Authority(tmp_path / "root")
    middle = Authority(tmp_path / "middle", issuer=root)

    def renew(certificate: Path, key: Path) -> None:
        made = middle.sign()
        certificate.write_text(made.certificate.read_text() + middle.certificate.read_text())
        key.write_text(made.key.read_text())

    renew(tmp_path / "fullchain.pem", tmp_path / "privkey.pem")
    hook = hook.replace("/etc/letsencrypt/live/broker.example.com", str(tmp_path))
    hook = hook.replace("/srv/emotion-analytics", str(site.folder))
    site.run("sh", "-c", "RENEWED_LINEAGE=/etc/letsencrypt/live/another\n" + hook)
    assert "8883" not in site.compose("ps", "--format", "{{.Ports}}", "gate")
    try:
        site.run("sh", "-c", f"RENEWED_LINEAGE={tmp_path}\n{hook}")
        site.add_device("renewed")
        site.publish("renewed", 1.0, ca=root.certificate)
        first = sent_certificate(site)
        shutil.copy(root.certificate, tmp_path / "root_ca.crt")
        renew(tmp_path / "server.crt", tmp_path / "server.key")
        step = step.replace("/srv/emotion-analytics", str(site.folder)).replace("/etc/step", str(tmp_path))
        site.run("sh", "-c", step)

        wait_until(lambda: sent_certificate(site) != first, what="the broker sends the renewed certificate")
        site.publish("renewed", 2.0, ca=root.certificate)
        (tmp_path / "server.crt").write_text(middle.sign().certificate.read_text())
        said = site.run("sh", "-c", step, expect=1)
        assert "certificate and key do not match" in said
        site.publish("renewed", 3.0, ca=root.certificate)
    finally:
        site.run("scripts/tls", "off")


def sent_certificate(site: Project) -> str:
    return ssl.get_server_certificate(("localhost", site.port))


def test_tls_comes_also_where_its_port_is_published_already(site: Project, tmp_path: Path) -> None:
    """As on a new server, with the .env of the one before and another certificate."""
    made = make_certificate(tmp_path)
    (site.folder / ".env").write_text("MQTT_LISTENER=8883\n")
    site.up()
    site.run("scripts/tls", "on", str(made.certificate), str(made.key))
    try:
        site.publish("jetson_1", 77.0, ca=made.ca)
        wait_until(lambda: site.happy("jetson_1") == 77.0, what="the batch is in the summary")
        assert 'HOST = "localhost"' in site.run("scripts/device", "add", "jetson_1", "--renew")
    finally:
        site.run("scripts/tls", "off")
        site.passwords.pop("jetson_1")
        site.add_device("jetson_1", "--renew")


def test_a_token_in_env_ends_the_api_with_a_sentence(site: Project) -> None:
    """It would be in `docker compose config`; and ignored, it would leave the API open."""
    token = "a-token-that-is-in-the-environment"
    environment = site.environment | {"EMOTION_API_TOKEN": token}
    command = ["docker", "compose", "run", "--rm", "--no-deps", "--no-TTY", "api"]
    configured = subprocess.run(
        [*command[:2], "config"], cwd=site.folder, env=environment, capture_output=True, check=True
    ).stdout.decode()
    finished = subprocess.run(command, cwd=site.folder, env=environment, capture_output=True, check=False, timeout=60)

    assert token not in configured
    assert finished.returncode != 0
    assert "EMOTION_API_TOKEN does not count here: use scripts/token" in finished.stderr.decode()


def test_the_daemon_is_unhealthy_while_it_cannot_hear(site: Project) -> None:
    site.compose("pause", "mosquitto")
    try:
        wait_until(
            lambda: site.inspect("daemon")["State"]["Health"]["Status"] == "unhealthy",
            pause=1,
            what="the daemon is unhealthy",
        )
    finally:
        site.compose("unpause", "mosquitto")
    wait_until(
        lambda: site.inspect("daemon")["State"]["Health"]["Status"] == "healthy",
        pause=1,
        what="the daemon is healthy again",
    )


def test_a_clone_needs_nothing_but_docker(tmp_path: Path) -> None:
    """`docker compose config` in a clone, without a .env: nothing has to be written first."""
    with project(clone(tmp_path)) as fresh:
        configured = fresh.compose("config", "--services").split()

    assert set(configured) == {"secrets", *SERVICES}


def test_doctor_finds_nothing_beside_the_daemon_and_while_it_is_stopped(site: Project) -> None:
    """The daemon's login is its client id here: one more would end it."""
    before = connections(site)
    beside = doctor(site)
    after = connections(site)
    site.compose("stop", "daemon")
    while_stopped = doctor(site)
    site.up()

    assert beside["broker login"]["found"].startswith(("not tried", "the running daemon says"))
    assert "packets up to" in beside["broker limits"]["found"]
    assert beside["api"]["level"] == "ok"
    assert amiss(beside) == set()
    assert after == before
    assert while_stopped["broker login"]["found"] == "accepted as emotion-daemon"
    assert while_stopped["broker session"]["found"] == "stored"
    assert amiss(while_stopped) == {"daemon"}


def connections(site: Project) -> tuple[int, int, str]:
    """Return how often the daemon has lost the broker and found it, and the time of its start."""
    log = site.compose("logs", "daemon")
    return log.count("lost the broker"), log.count("subscribed to"), site.inspect("daemon")["State"]["StartedAt"]


def doctor(site: Project) -> dict[str, Any]:
    """The findings by subject; exit code 0 says that none is a problem."""
    return {found["subject"]: found for found in json.loads(site.run("scripts/doctor", "--json"))["findings"]}


def amiss(findings: dict[str, Any]) -> set[str]:
    """Return the findings that are not ok, without this machine's own and those about other tests' devices."""
    others = {"clock", "database disk", "devices silent", "devices clock", "devices rejected", "devices logins"}
    return {subject for subject, found in findings.items() if found["level"] != "ok"} - others
