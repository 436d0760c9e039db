"""Postgres URLs: no part of a password is ever read as a host. Pure."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlsplit

FORM = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
CODES = {character: f"%{ord(character):02X}" for character in "@:/#?%[]"}
ADVICE = f"in the password write {', '.join(f'{code} for {c}' for c, code in CODES.items())}"

# A database's name has no raw `/` or `@`: these are from a password that was not encoded.
_URL = re.compile(
    r"(postgres(?:ql)?)://(?:([^/?#\[\]]*)@)?([^/?#@]*)(/[^/?#@\[\]]*)?(?:\?([^#]*))?"
)
_HOST = re.compile(r"(?:\[[0-9a-f:.%]+\]|([^:\[\]]*))(?::(\d{0,5}))?", re.ASCII | re.IGNORECASE)
_OPTION = re.compile(r"([A-Za-z_][A-Za-z0-9_.]*)=(.*)", re.DOTALL)
_ENCODED = re.compile("%[0-9A-Fa-f]{2}")
_STRAY = re.compile("%(?![0-9A-Fa-f]{2})")
_CREDENTIALS = {"user", "password", "sslpassword"}
_IN_LOGIN = "!$&'()*+,;=~"
_IN_OPTION = "!$'()*,;=~@:/"


@dataclass(frozen=True, slots=True)
class Dsn:
    """A Postgres URL that all URL parsers read alike; `place` contains no secret.

    Where no database is named, `place` has the user's name, which is that of the database then.
    `database`, `host` and `port` (with its colon) name nobody, and are empty where not given.
    """

    url: str
    place: str
    database: str
    host: str
    port: str


def read_dsn(text: str) -> Dsn:
    """Read a URL; a password may contain raw characters if only one reading is possible.

    Raises ValueError, whose message contains nothing of the text.
    """
    try:
        return _read(text)
    except ValueError:
        raise ValueError(f"is not a valid Postgres URL: use {FORM}; {ADVICE}") from None


def is_host_name(text: str) -> bool:
    """Return whether a host name can be looked up."""
    try:
        return bool(text.encode("idna"))
    except UnicodeError:
        return False


def _read(text: str) -> Dsn:
    match = _URL.fullmatch(text)
    if not match:
        raise ValueError
    scheme, userinfo, hosts, path, query = match.groups()
    _check_hosts(hosts)
    options = [_option(field) for field in query.split("&")] if query else []
    user, colon, password = (userinfo or "").partition(":")
    login = (
        ""
        if userinfo is None
        else f"{_encoded(user, _IN_LOGIN)}{colon}{_encoded(password, _IN_LOGIN)}@"
    )
    rest = f"{path or ''}{'?' if query else ''}{'&'.join(options)}"
    url = f"{scheme}://{login}{hosts}{rest}"
    urlsplit(url)  # rejects what Unicode normalisation could turn into another host
    database, host, port = _place(hosts, path, "&".join(options))
    named = database or unquote(user) or "of the default name"
    place = f"{named} on {host or 'the local server'}{port}"
    return Dsn(url, *map(_printable, (place, database, host, port)))


def _option(field: str) -> str:
    match = _OPTION.fullmatch(field)
    if not match:
        raise ValueError
    name, value = match.groups()
    if "@" in value and (name not in _CREDENTIALS or "/" in value):
        raise ValueError  # the end of a password and a host, rather than an option
    if name == "port" and not re.fullmatch(r"\d{1,5}(,\d{1,5})*", value, re.ASCII):
        raise ValueError
    if name == "host":
        _check_hosts(unquote(value, errors="strict"))
    return f"{name}={_encoded(value, _IN_OPTION)}" if name in _CREDENTIALS else field


def _check_hosts(text: str) -> None:
    several = text.split(",")
    if not all(map(_is_host, several)) or (len(several) > 1 and not all(several)):
        raise ValueError


def _is_host(text: str) -> bool:
    if text.startswith("/"):
        return True
    match = _HOST.fullmatch(text)
    if not match or int(match[2] or 0) > 65535:
        return False
    return not match[1] or "%" in match[1] or is_host_name(match[1])


def _encoded(text: str, safe: str) -> str:
    """Percent-encode a text that is raw or already encoded."""
    if _ENCODED.search(text) and ("@" in text or _STRAY.search(text)):
        raise ValueError  # raw and encoded characters at once: a %41 is ambiguous
    meant = unquote(text, errors="strict")
    if "\0" in meant:
        raise ValueError
    return quote(meant, safe=safe)


def _place(hosts: str, path: str | None, query: str) -> tuple[str, str, str]:
    """Return the names of the database and its hosts, and the port; each may be empty."""
    options = dict(parse_qsl(query, errors="strict"))
    named = unquote((path or "")[1:], errors="strict")
    database = named or options.get("dbname") or options.get("database") or ""
    server = unquote(hosts, errors="strict") or options.get("host", "")
    port = f":{options['port']}" if "port" in options and ":" not in server else ""
    return database, server, port


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)
