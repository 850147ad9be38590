"""A person is erased as docs/privacy.md says it: what the containers have left, the broker's store included."""

import secrets
from typing import cast

from shared.batch import encode
from tests.brokers import Broker
from tests.clients import Client
from tests.compose.project import Project
from tests.faults.history import START, TOPICS
from tests.faults.intruders import Intruder
from tests.waiting import wait_until


def test_nothing_is_left_of_who_was_erased(site: Project) -> None:
    device, name = f"camera_{secrets.token_hex(4)}", f"zofie-{secrets.token_hex(8)}"
    site.add_device(device)
    broker = cast(Broker, site)
    broker.password = site.passwords[device]

    def persons() -> list[str]:
        return [person["person_id"] for person in site.summary(device)["current_people"]]

    with Client(broker, device) as camera:
        batch = encode(device, START, {name: {"happy": 1.0}})
        camera.publish(TOPICS.batch(device), batch, retain=True)
        wait_until(lambda: persons() == [name], what="it is stored")
        site.compose("stop", "daemon")
        for number in range(300):
            people = {name: {"happy": float(number)}, "bert": {"happy": float(number)}}
            camera.send(TOPICS.batch(device), encode(device, START, people))
        camera.publish(TOPICS.batch(device), batch, qos=0, retain=True)
        camera.publish(TOPICS.status(device), name.encode(), retain=True)
        waiting = files_with(site, name)
        site.up()
        said = site.run("scripts/person", "forget", "--device", device, input=name.encode())
        wait_until(lambda: persons() == ["bert"], what="the queue is drained")
    site.compose("restart", "mosquitto")
    site.up()

    assert any(file.startswith("/broker/") for file in waiting)
    assert "restart the broker" in said
    assert files_with(site, name) == []
    assert name not in site.logs()


def test_the_brokers_log_names_refused_logins_alone(site: Project) -> None:
    """As docs/privacy.md says it: without these lines no operator sees that a stranger tries passwords."""
    device, name = f"camera_{secrets.token_hex(4)}", f"zofie-{secrets.token_hex(8)}"
    site.add_device(device)
    broker, password = cast(Broker, site), site.passwords[device]
    with Intruder(broker, device, password, will=(f"emotions/{device}/{name}", b"{}", True)) as camera:
        camera.subscribe(TOPICS.reply(device) + f"/{name}")
        camera.publish(f"emotions/{device}/{name}", name.encode(), response_topic=f"{TOPICS.reply(device)}/{name}")
    with Intruder(broker, name, "wrong", client_id="client") as refused:
        assert not refused.let_in
    wait_until(lambda: name in site.logs(), what="the broker logs the refused login")

    assert ["not authorised" in line for line in site.logs().splitlines() if name in line] == [True]


def files_with(site: Project, name: str) -> list[str]:
    """The files in the volumes of database and broker that have it."""
    command = f"""
import pathlib
files = [path for folder in ("/data", "/broker") for path in pathlib.Path(folder).rglob("*") if path.is_file()]
print(*(path for path in files if {name.encode()!r} in path.read_bytes()))
"""
    volumes = [
        f"--volume={site.name}_{name}:{path}:ro" for name, path in (("database", "/data"), ("broker", "/broker"))
    ]
    docker = ("docker", "run", "--rm", "--network=none", "--user=0", *volumes, site.name)
    return site.run(*docker, "python3", "-c", command).split()
