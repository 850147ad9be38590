"""RabbitMQ's management API, and the devices' logins there. The cluster stores them: there is no file of record."""

import json
import time
from base64 import b64encode
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

from emotion_admin.device_logins import Added, Removed, removed
from emotion_admin.errors import OperatorError
from emotion_admin.logins import check_device_login, new_password
from emotion_admin.rabbitmq_rights import permissions, topic_permissions
from emotion_admin.roles import OWN_LOGINS
from shared.batch import Topics

_SECONDS = 15.0
_NOT_FOUND = b"Object Not Found"  # RabbitMQ's, and no other server's
_LOCKED = "RESOURCE_LOCKED"  # the queue belongs to a connection that still ends
_REASON = 200  # characters of an answer that an error shows
_PAUSE = 0.2
_OPENER = build_opener(ProxyHandler({}))


class QueueInUseError(OperatorError):
    """A connection still owns the queue."""


class ManagementApi:
    """The management API at `url`, like http://rabbitmq-1:15672, for one login."""

    def __init__(self, url: str, login: str, password: str) -> None:
        self._url = url.rstrip("/")
        self._login = login
        self._authorization = f"Basic {b64encode(f'{login}:{password}'.encode()).decode()}"

    def get(self, *path: str) -> Any:
        """Return the answer, or None if there is no such thing. Raises OperatorError."""
        body = self._request("GET", path)
        try:
            return None if body is None else json.loads(body)
        except ValueError as error:
            raise OperatorError(self._not_rabbitmq()) from error

    def put(self, *path: str, body: dict[str, Any]) -> None:
        """Create or replace. Raises OperatorError."""
        self._request("PUT", path, json.dumps(body).encode())

    def delete(self, *path: str) -> bool:
        """Delete, and return whether there was such a thing. Raises OperatorError."""
        return self._request("DELETE", path) is not None

    def _request(self, method: str, path: tuple[str, ...], body: bytes | None = None) -> bytes | None:
        headers = {"Authorization": self._authorization, "Content-Type": "application/json"}
        url = "/".join((self._url, "api", *(quote(each, safe="") for each in path)))
        try:
            with _OPENER.open(Request(url, body, headers, method=method), timeout=_SECONDS) as response:
                content: bytes = response.read()
                return content
        except HTTPError as error:
            with error:
                answer = _rest_of(error)
                if error.code == 404 and _NOT_FOUND in answer:
                    return None
                raise self._refused(error.code, answer) from error
        except (OSError, HTTPException) as error:
            reason = error.reason if isinstance(error, URLError) else error
            raise OperatorError(
                f"cannot reach RabbitMQ's management API at {self._url}: {reason}; check that a node runs, and "
                "EMOTION_RABBITMQ_URL"
            ) from error

    def _refused(self, status: int, answer: bytes) -> OperatorError:
        if status in (401, 403):
            return OperatorError(
                f"RabbitMQ at {self._url} refuses the login {self._login}: restart a node, so that it reads "
                "rabbitmq-definitions.json again"
            )
        if status == 404:
            return OperatorError(self._not_rabbitmq())
        reason = answer.decode(errors="replace")[:_REASON]
        kind = QueueInUseError if _LOCKED in reason else OperatorError
        return kind(f"RabbitMQ at {self._url} answers {status} {reason}: see the nodes' logs")

    def _not_rabbitmq(self) -> str:
        return f"{self._url} is not RabbitMQ's management API: correct EMOTION_RABBITMQ_URL"

    def session(self, client_id: str, *, qos: int = 1) -> Any:
        """Return the queue of the client's session, or None. Raises OperatorError."""
        return self.get("queues", "/", session_queue(client_id, qos=qos))


def _rest_of(error: HTTPError) -> bytes:
    """The body of an answer that refuses; empty if the server ends the connection first."""
    try:
        return error.read()
    except (OSError, HTTPException):
        return b""


def session_queue(client_id: str, *, qos: int = 1) -> str:
    """Return the name of the queue that a client's subscriptions with this QoS fill."""
    return f"mqtt-subscription-{client_id}qos{qos}"


class RabbitMqLogins:
    """The devices' logins in the cluster, through its management API."""

    def __init__(self, api: ManagementApi, topics: Topics) -> None:
        self._api = api
        self._topics = topics

    def check(self, device_id: str, *, new: bool) -> None:
        check_device_login(device_id)
        if "." in device_id:
            raise OperatorError(
                f"{device_id} has a dot, which RabbitMQ takes for a new level of the topic, so no batch of this device "
                "would arrive: choose a device id without . and :"
            )
        if ":" in device_id:
            raise OperatorError(
                f"{device_id} has a colon, and RabbitMQ reads the part before it as a virtual host: choose a device id "
                "without . and :"
            )
        if new and self._api.get("users", device_id) is not None:
            raise OperatorError(f"{device_id} has a login already: --renew gives it a new password")

    def add(self, device_id: str, *, new: bool) -> Added:
        self.check(device_id, new=new)
        password = new_password()
        self._api.put("users", device_id, body={"password": password, "tags": ""})
        self._api.put("permissions", "/", device_id, body=permissions(device_id))
        self._api.put("topic-permissions", "/", device_id, body=topic_permissions(device_id, self._topics))
        self._end_connections(device_id)
        return Added(password)

    def remove(self, device_id: str) -> Removed:
        check_device_login(device_id)
        had_login = self._api.delete("users", device_id)
        self._end_connections(device_id)
        for qos in (0, 1):
            self._delete_queue(session_queue(device_id, qos=qos))
        ended = "RabbitMQ has ended its connection and session, and has deleted its queued messages"
        return Removed((removed(device_id, had_login=had_login), ended))

    def _delete_queue(self, name: str) -> None:
        """Delete a queue of a connection that is ending. Raises QueueInUseError if it takes longer than 15 s."""
        end = time.monotonic() + _SECONDS
        while True:
            try:
                self._api.delete("queues", "/", name)
                return
            except QueueInUseError:
                if time.monotonic() > end:
                    raise
                time.sleep(_PAUSE)

    def devices(self) -> list[str]:
        return sorted(user["name"] for user in self._api.get("users") if user["name"] not in OWN_LOGINS)

    def _end_connections(self, login: str) -> None:
        self._api.delete("connections", "username", login)
