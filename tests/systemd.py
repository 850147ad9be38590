"""systemd's side of sd_notify: the socket that NOTIFY_SOCKET names."""

import os
import socket
from types import TracebackType


class NotifySocket:
    """Listens at `address`, a path or @ and a name, during the block."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def __enter__(self) -> "NotifySocket":
        self._socket.bind(self.address.replace("@", "\0", 1) if self.address.startswith("@") else self.address)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()
        if not self.address.startswith("@"):
            os.unlink(self.address)

    def heard(self) -> list[str]:
        """Every assignment that has been sent so far, in order."""
        while True:
            try:
                self._heard += self._socket.recv(65_536).decode().split("\n")
            except BlockingIOError:
                return self._heard.copy()
