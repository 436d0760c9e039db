"""Errors of a database: what failed, where, and which setting or right to correct."""

import os
import re
import shlex
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, unquote

import asyncpg

from daemon.database import network
from daemon.errors import CallstatsdError, ConfigurationError, DatabaseSetupError, UnreachableError

_AWAY = (
    OSError,  # refused, reset, no route, name not found; TimeoutError is one too
    ssl.SSLError,
    asyncpg.PostgresError,  # shutting down, out of space, read only, a trigger that raises …
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
_CUT = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.DatabaseDroppedError,
    asyncpg.IdleSessionTimeoutError,
)
"""Errors that end the session; after others the server may accept another statement."""
_REFUSING = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.InvalidParameterValueError,  # a time zone that the server does not know
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedObjectError,
    asyncpg.UndefinedTableError,
)
_POOLED = (
    asyncpg.DuplicatePreparedStatementError,
    asyncpg.InvalidSQLStatementNameError,
)
"""Errors of a statement on a session that a pooler shares."""
KEPT_SETTING = (
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
)
"""Errors that one session may repeat although the server, or another session, has recovered."""

_NAMING_VALUES = ("22", "23", "38", "39", "44", "P0")
"""Classes of SQLSTATE whose messages may name the values of a row, and with them a caller."""

_UNFIT = ("22", "23", "54")
"""Classes of SQLSTATE for values that the server cannot hold, however often it is asked."""

_URL = re.compile(
    r"postgres(?:ql)?://(?:(?P<user>[^/?#@:\[\]]*)(?::[^/?#\[\]]*)?@)?(?P<hosts>[^/?#@]*)"
    r"(?:/(?P<database>[^?#@]*))?(?:\?(?P<query>[^#]*))?"
)


class Place:
    """Where a DSN leads, without its password; `name` is `source` or `ledger`."""

    def __init__(self, name: str, dsn: str) -> None:
        """Read the DSN; nothing is shown of one that is not a plain URL."""
        self.name = name
        self.setting = "CALLSTATSD_SOURCE_DSN"
        if name == "ledger":
            self.setting = "CALLSTATSD_LEDGER_DSN (where it is not set: CALLSTATSD_SOURCE_DSN)"
        match = _URL.fullmatch(dsn)
        options = parse_qs(match["query"] or "") if match else {}
        hosts = (match and match["hosts"]) or options.get("host", [""])[0]
        port = options.get("port", [os.environ.get("PGPORT", "5432")])[0]
        self.hosts = ", ".join(_host_port(host, port) for host in hosts.split(",") if host)
        if not self.hosts:
            self.hosts = "a local socket" if match else f"the host in {self.setting}"
        self.user = unquote(match["user"] or "") if match else ""
        self.database = unquote(match["database"] or "") if match else ""
        role = shlex.quote(self.user or "ROLE")
        self.script = f"`callstatsd migrate --sql --grant-to {role}`"


def _host_port(host: str, port: str) -> str:
    host = unquote(host)
    if host.startswith("/"):
        return f"the socket in {host}"
    return host if re.search(r":\d+$", host) else f"{host}:{port}"


@contextmanager
def faults(place: Place, *, connecting: bool = False) -> Iterator[None]:
    """Raise a database's faults as `UnreachableError`, or `DatabaseSetupError` (exit 78)."""
    try:
        yield
    except asyncpg.ClientConfigurationError:
        # The parser's own message may repeat the DSN, and with it the password.
        raise ConfigurationError(
            f"{place.setting} cannot be used: check its options, "
            "such as sslmode and certificate files"
        ) from None
    except asyncpg.PostgresError as error:
        raise _answered(error, place, connecting=connecting) from error
    except _AWAY as error:
        why = _connecting(error, place) if connecting else network.reason(error)
        raise UnreachableError(f"the {place.name} database cannot be used now: {why}") from error


def _answered(error: asyncpg.PostgresError, place: Place, *, connecting: bool) -> CallstatsdError:
    """Return our error for one that the server, or a pooler before it, sent."""
    said = _message(error)
    if isinstance(error, _POOLED) or "unsupported startup parameter" in said:
        return pooler_refused(place, said)
    if isinstance(error, _REFUSING):
        advice = ""
        if isinstance(error, asyncpg.InsufficientPrivilegeError):
            advice = f"; let a DBA run what {place.script} prints"
        message = f"the {place.name} database refuses: {said}{advice}"
        return DatabaseSetupError(message, answered=True)
    if connecting:
        said = _refused_login(error, said, place)
    message = f"the {place.name} database cannot be used now: {said}"
    unfit = (error.sqlstate or "").startswith(_UNFIT)
    return UnreachableError(message, answered=not isinstance(error, _CUT), unfit=unfit)


def pooler_refused(place: Place, said: str) -> DatabaseSetupError:
    """Return the error for a pooler that shares sessions."""
    return DatabaseSetupError(
        f"a connection pooler such as PgBouncer at {place.hosts} does not keep the sessions of "
        f"the {place.name} database as we need them ({said}): connect to Postgres itself, with "
        f"its own host and port in {place.setting}",
        answered=True,
    )


def _message(error: asyncpg.PostgresError) -> str:
    """Return the server's message in one line, without values of the tables."""
    if error.sqlstate and error.sqlstate.startswith(_NAMING_VALUES):
        return f"the server answered SQLSTATE {error.sqlstate}; its own log says more"
    return str(error).split("\n", maxsplit=1)[0] or f"the server answered {error.sqlstate}"


def _refused_login(error: asyncpg.PostgresError, said: str, place: Place) -> str:
    at = f"{said} at {place.hosts}"
    match error:
        case asyncpg.InvalidPasswordError():
            return f"{at}; correct user and password in {place.setting}"
        case asyncpg.InvalidAuthorizationSpecificationError():
            return f"{at}; correct the user in {place.setting}, or let a DBA allow it to log in"
        case asyncpg.InvalidCatalogNameError():
            return f"{at}; correct the database in {place.setting}, or create it"
        case asyncpg.TooManyConnectionsError():
            return f"{at}; let a DBA raise max_connections, or the limit of the user or database"
    return at


def _connecting(error: BaseException, place: Place) -> str:
    """Return which connection failed, why, and what to correct."""
    why = network.reason(error)
    if "certificate" in why:
        advice = f"name the authority's file with sslrootcert= in {place.setting}"
        if "ostname mismatch" in why or "IP address mismatch" in why:
            advice = f"write a host that the certificate names into {place.setting}"
    elif "rejected SSL upgrade" in why:
        why = "the server offers no TLS"
        advice = f"let a DBA turn it on, or correct sslmode= in {place.setting}"
    elif why == "unknown host name":
        advice = f"correct the host in {place.setting}"
    elif why in {"connection refused", "no socket there"}:
        advice = f"start Postgres there, or correct host and port in {place.setting}"
    else:
        advice = f"check the network, firewalls, and host and port in {place.setting}"
    return f"{place.hosts}: {why}; {advice}"
