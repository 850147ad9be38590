"""A person is erased as docs/PRIVACY.md says it: what the containers have left of them, the broker's store too."""

import secrets
from typing import cast

from shared.batch import encode
from tests.brokers import Broker
from tests.clients import Client
from tests.compose.project import Project
from tests.faults.history import START, TOPICS
from tests.waiting import wait_until


def test_nothing_is_left_of_who_was_erased(site: Project) -> None:
    device, name = f"camera_{secrets.token_hex(4)}", f"zofie-{secrets.token_hex(8)}"
    site.add_device(device)
    broker = cast(Broker, site)
    broker.password = site.passwords[device]

    def persons() -> list[str]:
        return [person["person_id"] for person in site.summary(device)["current_people"]]

    with Client(broker, device) as camera:
        camera.publish(TOPICS.batch(device), encode(device, START, {name: {"happy": 1.0}}))
        wait_until(lambda: persons() == [name], what="it is stored")
        site.compose("stop", "daemon")
        for number in range(300):
            people = {name: {"happy": float(number)}, "bert": {"happy": float(number)}}
            camera.send(TOPICS.batch(device), encode(device, START, people))
        camera.wait_for_pubacks()
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
