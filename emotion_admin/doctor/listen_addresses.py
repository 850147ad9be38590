"""From where a port of this machine can be reached, by the text of /proc/net/tcp and tcp6. Pure."""

import ipaddress
import sys

_LISTEN = "0A"


def is_on_loopback_alone(port: int, *texts: str) -> bool:
    """Whether a program listens at `port`, and none listens there at an address that other machines reach."""
    addresses = [address for text in texts for address, at in map(_listener, text.splitlines()) if at == port]
    return bool(addresses) and all(map(_is_loopback, addresses))


def _listener(line: str) -> tuple[bytes, int]:
    """Return address and port of a listening socket, as in proc(5); b"" and -1 for any other line."""
    fields = line.split()
    if len(fields) < 4 or fields[3] != _LISTEN:
        return b"", -1
    address, _, port = fields[1].partition(":")
    words = [address[at : at + 8] for at in range(0, len(address), 8)]
    return b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words), int(port, 16)


def _is_loopback(packed: bytes) -> bool:
    address = ipaddress.ip_address(packed)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
