"""The text that `device add` prints: what the device needs to connect."""

from shlex import quote
from typing import NamedTuple


class Address(NamedTuple):
    """The broker's address for a device; with `tls` the device needs the CA's certificate."""

    host: str
    port: int
    tls: bool


def snippet(device_id: str, password: str, address: Address) -> str:
    """Return the text for the person who sets up the device."""
    ca = " --cafile ca.crt" if address.tls else ""
    batch = (
        f"""'{{"device_id": "{device_id}", "timestamp": "'$(date -u +%FT%TZ)'", """
        """"people": [{"person_id": "1", "cumulative": {"happy": 123.5}}]}'"""
    )
    login = f"-h {quote(address.host)} -p {address.port}{ca} -i {device_id} -u {device_id} -P {quote(password)}"
    lines = [
        f"{device_id} can publish now. This is the only time that its password is shown:",
        "",
        f"  {password}",
        "",
        "Copy examples/paho/device.py or examples/publisher/device.py to the device. Replace its five lines by these:",
        "",
        *(f"  {line}" for line in connection_lines(device_id, password, address)),
        "",
        "docs/devices.md says which of the two files your device can run.",
        "",
        "For a try from a shell, whose history then contains the password:",
        "",
        f"  mosquitto_pub -V 5 -q 1 {login} \\",
        f"    -t emotions/{device_id}/batch -m {batch}",
    ]
    if address.tls:
        lines += [
            "",
            "ca.crt is the certificate of the CA that signed the broker's certificate: copy it to the device.",
        ]
    return "\n".join(lines)


def connection_lines(device_id: str, password: str, address: Address) -> list[str]:
    """Return the lines of the example programs that say how this device connects."""
    tls_ca = '"ca.crt"' if address.tls else None
    return [
        f'DEVICE_ID = "{device_id}"',
        f'HOST = "{address.host}"',
        f"PORT = {address.port}",
        f'PASSWORD = "{password}"',
        f"TLS_CA = {tls_ca}",
    ]
