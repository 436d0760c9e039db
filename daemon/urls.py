"""URLs: which may receive a secret (https anywhere, http on this machine), or be a link. Pure."""

import re
from ipaddress import IPv4Address
from urllib.parse import urlsplit

_LOOPBACK = re.compile(r"localhost|127(\.[0-9]{1,3}){3}|::1|\[::1\]")
_BASE_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._-]{1,253}|\[::1\])(:(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[A-Za-z0-9_./~-]*)?"
)
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
# A last label of this kind makes resolvers read the whole name as an address.
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")


def allows_secrets(scheme: str, host: str) -> bool:
    """Return whether a token or password may be sent to a host: by https, or to loopback."""
    return scheme == "https" or (scheme == "http" and _LOOPBACK.fullmatch(host) is not None)


def show_address(address: tuple[str, int]) -> str:
    """Return host and port as a URL has them."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_safe_base(url: str) -> bool:
    """Return whether a token may be sent to a base URL, and its host and port can exist."""
    match = _BASE_URL.fullmatch(url)
    if match is None or not allows_secrets(match["scheme"], match["host"]):
        return False
    if match["port"] is not None and not 1 <= int(match["port"]) <= 65535:
        return False
    if match["scheme"] == "http" and match["path"] not in {None, "/"}:
        return False
    if match["host"] == "[::1]":
        return match["scheme"] == "http"
    return _is_host(match["host"])


def is_web_url(url: str) -> bool:
    """Return whether a text is a whole http or https URL."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    plain = re.fullmatch(r"[^\s\x00-\x1f\x7f<>\"\\]+", url) is not None
    return plain and bool(host) and parts.scheme in {"http", "https"}


def _is_host(host: str) -> bool:
    """Return whether a text is an IPv4 address or can be a name (RFC 1123, and underscores)."""
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            IPv4Address(host)
        except ValueError:
            return False
        return True
    return all(_LABEL.fullmatch(label) for label in labels)
