"""The text that `device add` prints: what the device needs to connect."""

from datetime import UTC, datetime
from shlex import quote
from typing import NamedTuple


class Address(NamedTuple):
    """How a device reaches the broker; with `tls` it needs the CA's certificate."""

    host: str
    port: int
    tls: bool


def snippet(device_id: str, password: str, address: Address) -> str:
    """Return the text for the person who sets up the device."""
    tls = ', tls_ca="ca.crt"' if address.tls else ""
    ca = " --cafile ca.crt" if address.tls else ""
    batch = (
        f'{{"device_id": "{device_id}", "timestamp": "{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", '
        '"people": [{"person_id": "1", "cumulative": {"happy": 123.5}}]}'
    )
    login = f"-h {quote(address.host)} -p {address.port}{ca} -i {device_id} -u {device_id} -P {quote(password)}"
    lines = [
        f"{device_id} can publish now. This is the only time that its password is shown:",
        "",
        f"  {password}",
        "",
        "In the device's program:",
        "",
        "  from emotion_device import Publisher",
        "",
        f'  publisher = Publisher("{device_id}", host="{address.host}", port={address.port}, '
        f'password="{password}"{tls})',
        "",
        "Or with paho-mqtt alone (see the README):",
        "",
        "  import paho.mqtt.client as mqtt",
        "",
        f'  client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="{device_id}", protocol=mqtt.MQTTv5)',
        f'  client.username_pw_set("{device_id}", "{password}")',
        *(['  client.tls_set("ca.crt")'] if address.tls else []),
        f'  client.connect("{address.host}", {address.port}, keepalive=30)',
        "",
        "Or for a try from a shell, whose history then contains the password:",
        "",
        f"  mosquitto_pub -V 5 -q 1 {login} \\",
        f"    -t emotions/{device_id}/batch -m {quote(batch)}",
    ]
    if address.tls:
        lines += [
            "",
            "ca.crt is the certificate of the CA that signed the broker's certificate: copy it to the device.",
        ]
    return "\n".join(lines)
