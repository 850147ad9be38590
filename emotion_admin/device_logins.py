"""The devices' logins at a broker: what `scripts/device` needs of each kind of broker, and Mosquitto's.

For RabbitMQ's see emotion_admin.rabbitmq.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple, Protocol

from emotion_admin import broker
from emotion_admin.errors import OperatorError
from emotion_admin.logins import check_device_login
from emotion_admin.secrets import Secrets


class Added(NamedTuple):
    """A login's new password, which is stored nowhere. `warnings` are sentences for the operator."""

    password: str
    warnings: tuple[str, ...] = ()


class Removed(NamedTuple):
    """Sentences about what a removed login has lost. `warnings` are sentences, too."""

    sentences: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def removed(device_id: str, *, had_login: bool) -> str:
    """Return the first sentence about a login that a running broker no longer has."""
    return f"{device_id} {'can no longer connect' if had_login else 'had no login'}; its data stays in the database"


class DeviceLogins(Protocol):
    """The devices' logins at one kind of broker. Each method raises OperatorError."""

    def check(self, device_id: str, *, new: bool) -> None:
        """Raise OperatorError if `device_id` cannot be a device's login, or is one although it should be `new`."""

    def add(self, device_id: str, *, new: bool) -> Added:
        """Create the login, or give it a new password and end connections with the old one."""

    def remove(self, device_id: str) -> Removed:
        """Delete the login, and end what the device has at the broker. It need not have a login."""

    def devices(self) -> list[str]:
        """Return the devices that have a login."""


class MosquittoLogins:
    """The logins in the folder of secrets, and in each broker at `addresses` that runs."""

    def __init__(self, secrets: Secrets, addresses: Sequence[broker.Address]) -> None:
        self._secrets = secrets
        self._addresses = addresses

    def check(self, device_id: str, *, new: bool) -> None:
        if new:
            self._secrets.logins.check_new(device_id)
        else:
            check_device_login(device_id)

    def add(self, device_id: str, *, new: bool) -> Added:
        logins = self._secrets.logins
        with logins.locked(), self._brokers() as (running, stopped):
            password = logins.add(device_id) if new else logins.renew(device_id)
            for each in running:
                try:
                    each.set_login(device_id, password)
                except OperatorError as error:
                    raise OperatorError(f"{error}; then give {device_id} a new password with --renew") from error
        return Added(
            password, tuple(f"{name} is not running: the login counts from its next start" for name in stopped)
        )

    def remove(self, device_id: str) -> Removed:
        with self._secrets.logins.locked(), self._brokers() as (running, stopped):
            had_login = self._secrets.logins.remove(device_id)
            for each in running:
                each.remove_device(device_id)
        if not running and not had_login:
            raise OperatorError(
                f"{device_id} has no login (see scripts/device list), and the broker is not running: start the broker "
                "and run the same command again to end the device's session there"
            )
        ended = "the broker has ended its connection and session, and has deleted its queued and retained messages"
        return Removed(
            (removed(device_id, had_login=had_login), ended)
            if running
            else (f"{device_id} cannot connect from the broker's next start on; its data stays in the database",),
            tuple(
                f"{name} is not running, and still has the device's session and retained messages: once it runs, run "
                "the same command again to delete them"
                for name in stopped
            ),
        )

    def devices(self) -> list[str]:
        return self._secrets.logins.devices()

    @contextmanager
    def _brokers(self) -> Iterator[tuple[list[broker.Broker], list[str]]]:
        """Yield the running brokers, and the names of the others for a sentence. Raises OperatorError.

        One of several brokers that does not answer counts as stopped: its host may be down, and a login has to end all
        the same.
        """
        running: list[broker.Broker] = []
        stopped = [] if self._addresses else ["the broker"]
        with ExitStack() as stack:
            for address in self._addresses:
                password = self._secrets.admin_password.read_text(encoding="utf-8").strip()
                try:
                    found = stack.enter_context(broker.connected(address, password, self._secrets.topics))
                except broker.SilentBrokerError:
                    if len(self._addresses) == 1:
                        raise
                    found = None
                if found:
                    running.append(found)
                else:
                    stopped.append(str(address))
            yield running, stopped
