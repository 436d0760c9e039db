"""Host names under which the page is served. Pure."""

import ipaddress
import re
import socket
from collections.abc import Sequence

_HOST = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+?)\.?)(?::\d{1,5})?")


class AllowedHosts:
    """Validates the Host header (protection against DNS rebinding).

    Only a name can be made to point here, not an address: unless the listener is on loopback,
    every address is allowed. The port is ignored, because `ssh -L` changes it.
    """

    def __init__(self, listen: tuple[str, int] | None) -> None:
        host = (listen or ("localhost", 0))[0].lower()
        self._names = {"localhost"}
        self._only_loopback = _is_loopback(host)
        if _address(host) is None:
            self._names.add(host)
        if not self._only_loopback:
            own = socket.gethostname().lower()
            self._names |= {own, own.partition(".")[0]}

    def allows(self, header: str) -> bool:
        """Return whether a Host header names this listener."""
        match = _HOST.fullmatch(header.lower())
        if match is None:
            return False
        host = match["v6"] or match["name"]
        address = _address(host)
        if address is not None:
            return not self._only_loopback or address.is_loopback
        return not match["v6"] and host in self._names

    def advice(self, sockname: Sequence[object] | None) -> str:
        """Return a text with the address under which the page is served."""
        host, port = (str(part) for part in (sockname or ("127.0.0.1", 9464))[:2])
        shown = f"[{host}]" if ":" in host else host
        return (
            "This page is not served under that host name, so that no other site can read it "
            f"(DNS rebinding).\nOpen http://{shown}:{port}/ instead, or let your proxy send that "
            "as Host.\n"
        )


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback
