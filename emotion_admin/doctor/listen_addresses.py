"""Tell if other machines can reach a port of this machine, by the text of /proc/net/tcp and tcp6. Pure."""

_LISTEN = "0A"
_LOOPBACK = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")
"""127.0.0.1, the same in IPv6, and ::1, as proc(5) shows them on a little-endian machine."""


def is_on_loopback_alone(port: int, *texts: str) -> bool:
    """Return True if a program listens at `port`, and none listens there at an address that other machines reach."""
    sockets = (line.split() for text in texts for line in text.splitlines())
    listeners = (fields[1].partition(":") for fields in sockets if fields[3:4] == [_LISTEN])
    addresses = [address for address, _, number in listeners if int(number, 16) == port]
    return bool(addresses) and all(address in _LOOPBACK for address in addresses)
