"""Change logins in the running broker, over MQTT. Imports paho.

The commands go to the control topic of Mosquitto's plugin dynamic_security. Once the broker has answered, the change is
in force, and connections with an old password have ended.
"""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from emotion_admin.errors import OperatorError
from emotion_admin.logins import new_password
from emotion_admin.roles import ADMIN, CONTROL, CONTROL_RESPONSE, Acl, acls, leaving_acls
from shared.batch import Topics

_SECONDS = 15.0
"""Seconds that each answer may take: with 10,000 logins the broker writes 10 MB after each command."""

_ADVICE = "restart the broker, so that it reads all logins again"

_Command = dict[str, Any]


class Address(NamedTuple):
    """The broker's address for this machine or container, without TLS."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"the broker at {self.host}:{self.port}"


class SilentBrokerError(OperatorError):
    """Raised when a broker's address neither answers nor refuses a connection."""


class Broker:
    """A running broker, and this connection to it as its administrator."""

    def __init__(self, address: Address, session: "_Session", topics: Topics) -> None:
        self._address = address
        self._session = session
        self._topics = topics

    def set_login(self, name: str, password: str) -> None:
        """Create the login, or give it a new password and end connections with the old one. Raises OperatorError."""
        self._command(*_deleting(name), *_creating(name, password, acls(name, self._topics)))

    def remove_device(self, device_id: str) -> None:
        """Delete the login and end what the device has at the broker. It need not have a login. Raises OperatorError.

        That is its connection, its session with the queued messages, its will and its retained messages. Only a client
        that connects as the device can end the session and clear the topics.
        """
        password = new_password()
        self._command(*_deleting(device_id), *_creating(device_id, password, leaving_acls(device_id, self._topics)))
        try:
            with _Session(self._address, device_id, password) as device:
                self._clear_topics(device, device_id)
        finally:
            self._command(*_deleting(device_id))

    def _clear_topics(self, device: "_Session", device_id: str) -> None:
        batch = self._topics.batch(device_id)
        device.subscribe(batch)
        device.publish(self._topics.status(device_id), b"", retain=True)
        device.publish(self._topics.info(device_id), b"", retain=True)
        if device.received:  # otherwise the daemon would get an empty batch, and reject it
            device.publish(batch, b"", retain=True)

    def _command(self, *commands: _Command) -> None:
        self._session.received.clear()
        self._session.publish(CONTROL, json.dumps({"commands": commands}).encode())
        self._session.wait(lambda: bool(self._session.received), "answers no command about logins")
        for response in json.loads(self._session.received[0])["responses"]:
            error = response.get("error")
            if error and not response["command"].startswith("delete"):  # what is to be deleted may be missing
                raise OperatorError(f"{self._address} refuses to {response['command']}: {error}; {_ADVICE}")


@contextmanager
def connected(address: Address, password: str, topics: Topics) -> Iterator[Broker | None]:
    """Yield the broker at `address`, or None if it is not running. Raises OperatorError."""
    if not _is_running(address):
        yield None
        return
    with _Session(address, ADMIN, password) as session:
        session.subscribe(CONTROL_RESPONSE)
        yield Broker(address, session, topics)


def _is_running(address: Address) -> bool:
    try:
        socket.create_connection(address, timeout=_SECONDS).close()
    except TimeoutError as error:
        raise SilentBrokerError(f"{address} does not answer; nothing was changed") from error
    except OSError:
        return False
    return True


def _deleting(name: str) -> list[_Command]:
    return [{"command": "deleteClient", "username": name}, {"command": "deleteRole", "rolename": name}]


def _creating(name: str, password: str, allowed: list[Acl]) -> list[_Command]:
    return [
        {"command": "createRole", "rolename": name, "acls": allowed},
        {"command": "createClient", "username": name, "password": password, "roles": [{"rolename": name}]},
    ]


class _Session:
    """A login's connection for the block. It starts clean, and its session ends with it; `received` has payloads."""

    def __init__(self, address: Address, login: str, password: str) -> None:
        self.received: list[bytes] = []
        self._address = address
        self._login = login
        self._reasons: list[ReasonCode] = []
        self._is_ended = False
        client = mqtt.Client(CallbackAPIVersion.VERSION2, login, protocol=mqtt.MQTTv5)
        client.username_pw_set(login, password)
        client.connect_timeout = _SECONDS
        client.on_connect = lambda client, userdata, flags, reason, properties: self._reasons.append(reason)
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = lambda client, userdata, mid, reasons, properties: self._reasons.extend(reasons)
        client.on_publish = lambda client, userdata, mid, reason, properties: self._reasons.append(reason)
        client.on_message = lambda client, userdata, message: self.received.append(bytes(message.payload))
        self._client = client

    def __enter__(self) -> "_Session":
        try:
            self._client.connect(*self._address, clean_start=True)
        except OSError as error:
            raise OperatorError(f"cannot connect to the broker: {error}; run the same command again") from error
        self._wait_for_reason(f"does not accept the login {self._login}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.disconnect()

    def subscribe(self, topic_filter: str) -> None:
        self._client.subscribe(topic_filter)
        self._wait_for_reason(f"does not grant {topic_filter} to {self._login}")

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain)
        self._wait_for_reason(f"does not accept a message on {topic} from {self._login}")

    def wait(self, done: Callable[[], bool], complaint: str) -> None:
        """Drive the connection until `done`. Raises OperatorError, with `complaint` about the broker."""
        end = time.monotonic() + _SECONDS
        while not done():
            if self._is_ended or time.monotonic() > end:
                raise OperatorError(f"{self._address} {complaint}; {_ADVICE}")
            if self._client.loop(0.1) != mqtt.MQTT_ERR_SUCCESS:
                self._is_ended = True

    def _wait_for_reason(self, complaint: str) -> None:
        self.wait(lambda: bool(self._reasons), complaint)
        reason = self._reasons.pop()
        if reason.is_failure:
            raise OperatorError(f"{self._address} {complaint} ({reason}); {_ADVICE}")

    def _on_disconnect(self, *_: object) -> None:
        self._is_ended = True
