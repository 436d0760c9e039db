"""Tokens for Salesforce: one at a time, shared by all requests, renewed once when refused."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import aiohttp
import structlog

from daemon import logs
from daemon.errors import CallstatsdError, ConfigurationError
from daemon.salesforce.responses import TokenFailure, retry_after_seconds
from daemon.salesforce.transport import BODY_LIMIT, begin_request, describe, first_bytes
from daemon.urls import is_safe_base

_log = structlog.get_logger()

_SHORT = 200

# What a token endpoint answers is shown only if it is one of these: other text might repeat what we
# sent it, in any form. RFC 6749 (5.2) and Salesforce's OAuth error codes, with what to do.
_APP = "check CALLSTATSD_TOKEN_URL and the connected app"
_LOGIN = "check the login, that the flow is enabled and its run-as user active"
_ADVICE = {
    "access_denied": _APP,
    "app_not_found": "install the connected app in this org, or correct CALLSTATSD_TOKEN_URL",
    "inactive_org": "ask Salesforce why the org is locked or closed",
    "inactive_user": "activate the run-as user",
    "invalid_app_access": "let the run-as user use the connected app",
    "invalid_assertion": _LOGIN,
    "invalid_assertion_type": _APP,
    "invalid_client": "check CALLSTATSD_CLIENT_ID and CALLSTATSD_CLIENT_SECRET",
    "invalid_client_credentials": "check CALLSTATSD_CLIENT_ID and CALLSTATSD_CLIENT_SECRET",
    "invalid_client_id": "check CALLSTATSD_CLIENT_ID",
    "invalid_grant": _LOGIN,
    "invalid_request": _APP,
    "invalid_scope": _APP,
    "rate_limit_exceeded": "there were too many logins; it is tried again",
    "server_error": _APP,
    "temporarily_unavailable": _APP,
    "unauthorized_client": "enable this flow in the connected app",
    "unknown_error": _APP,
    "unsupported_grant_type": "enable this flow in the connected app",
}
_PHRASES = {
    "audience is invalid",
    "audience validation failed",
    "authentication failure",
    "client credentials flow not enabled",
    "client identifier invalid",
    "expired access/refresh token",
    "expired authorization code",
    "external client app is not installed in this org",
    "grant type not supported",
    "invalid assertion",
    "invalid audience",
    "invalid client credentials",
    "invalid user credentials",
    "ip restricted or invalid login hours",
    "no client credentials user enabled",
    "org is locked, closed, or suspended",
    "request not supported on this domain",
    "user hasn't approved this consumer",
    "user is inactive",
    "user is not admin approved to access this app",
}

ASSERTION_LIFE = 180
"""Seconds a JWT assertion is good for; Salesforce refuses a longer one."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a request carries; `instance_url` is where a path of the endpoint belongs."""

    authorization: str | None
    instance_url: str | None

    def __repr__(self) -> str:
        """Keep the token out of logs and tracebacks."""
        return f"Token(instance_url={self.instance_url!r})"


class TokenError(CallstatsdError):
    """No token; `answer` is for the sender, the message says what to do."""

    exit_code = 69

    def __init__(self, message: str, *, refused: bool, retry_after: float | None = None) -> None:
        """`refused` if the token endpoint said no, else it could not be reached."""
        super().__init__(message)
        self.answer = TokenFailure(refused, message, retry_after)


class Tokens(Protocol):
    """Where the sender gets its tokens.

    `address_asked_at` is when one was last fetched only for the org's address, by the asker's
    clock: all who share the tokens keep to one limit.
    """

    address_asked_at: float

    async def token(self) -> Token:
        """Return the token in use; raises `TokenError`."""

    async def renew(self, refused: Token) -> Token:
        """Return a token other than the refused one; raises `TokenError`."""


class FixedToken:
    """A token of the administrator's own, or none: renewing gives the same again."""

    def __init__(self, bearer: str | None) -> None:
        """Without a token no Authorization header is sent."""
        self._token = Token(f"Bearer {bearer}" if bearer else None, None)
        self.address_asked_at = float("-inf")

    async def token(self) -> Token:
        """Return the token."""
        return self._token

    async def renew(self, refused: Token) -> Token:
        """Return the same token: there is no other."""
        return refused


class OAuthTokens:
    """Fetches tokens from the token endpoint, one request at a time for all who wait.

    Each answer's `instance_url` is used with its token. There is no `expires_in`: a token is used
    until it is refused.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, grant: "Grant") -> None:
        self._session = session
        self._url = url
        self._grant = grant
        self._token: Token | None = None
        self._fetching: asyncio.Task[Token] | None = None
        self.address_asked_at = float("-inf")

    async def token(self) -> Token:
        """Return the token in use; fetch the first one."""
        return self._token or await self._renewed()

    async def renew(self, refused: Token) -> Token:
        """Fetch a new token, unless another request did since `refused` was handed out."""
        if self._token is not None and self._token is not refused:
            return self._token
        return await self._renewed()

    async def _renewed(self) -> Token:
        """Share one request, and its failure, among all who wait for it: logins are limited."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._fetched)
        return await asyncio.shield(self._fetching)

    def _fetched(self, task: asyncio.Task[Token]) -> None:
        self._fetching = None
        if not task.cancelled() and task.exception() is None:
            self._token = task.result()
            _log.info(logs.TOKEN_REFRESHED, instance_url=self._token.instance_url)

    async def _fetch(self) -> Token:
        begin_request()
        began = time.monotonic()
        try:
            async with self._session.post(
                self._url, data=self._grant.form(), allow_redirects=False
            ) as response:
                body = await first_bytes(response.content, BODY_LIMIT)
                status, retry_after = response.status, response.headers.get("Retry-After")
        except (aiohttp.ClientError, TimeoutError, OSError, UnicodeError) as error:
            host = urlsplit(self._url).hostname
            raise TokenError(
                f"the token endpoint at {host} cannot be reached: "
                f"{describe(error)}; {_check(error)}",
                refused=False,
            ) from error
        _log.debug(
            logs.REQUEST_DONE,
            method="POST",
            path=urlsplit(self._url).path,
            status=status,
            seconds=round(time.monotonic() - began, 3),
        )
        return _read_token(status, body, retry_after)


class Grant(Protocol):
    """One OAuth flow: the form that asks for a token."""

    def form(self) -> dict[str, str]:
        """Return the form's fields, made anew for each request."""


@dataclass(frozen=True, slots=True, repr=False)
class ClientCredentials:
    """The client credentials flow."""

    client_id: str
    client_secret: str

    def form(self) -> dict[str, str]:
        """Return grant, id and secret."""
        return {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": self.client_secret,
        }


@dataclass(frozen=True, slots=True, repr=False)
class Password:
    """The user name and password flow; newer orgs block it by default."""

    client_id: str
    client_secret: str
    username: str
    password_and_token: str

    def form(self) -> dict[str, str]:
        """Return the login, its password with the security token appended."""
        return {
            "grant_type": "password",
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "username": self.username,
            "password": self.password_and_token,
        }


@dataclass(frozen=True, slots=True, repr=False)
class JwtBearer:
    """The JWT bearer flow; `audience` is the login host, production's or the sandboxes'."""

    client_id: str
    username: str
    private_key: str
    audience: str

    def form(self) -> dict[str, str]:
        """Sign a new assertion by the daemon's clock."""
        import jwt  # noqa: PLC0415 - the extra `jwt` is only needed here

        claims = {
            "iss": self.client_id,
            "sub": self.username,
            "aud": self.audience,
            "exp": int(time.time()) + ASSERTION_LIFE,
        }
        return {
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "assertion": jwt.encode(claims, self.private_key, algorithm="RS256"),
        }


def jwt_bearer(client_id: str, username: str, key_file: Path, token_url: str) -> JwtBearer:
    """Read the private key; raises `ConfigurationError` where it or PyJWT is missing."""
    try:
        import jwt  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            "CALLSTATSD_AUTH=jwt_bearer needs PyJWT: pip install 'PyJWT[crypto]'"
        ) from error
    host = urlsplit(token_url).hostname or ""
    sandbox = host == "test.salesforce.com" or ".sandbox." in host
    audience = "https://test.salesforce.com" if sandbox else "https://login.salesforce.com"
    try:
        key = key_file.read_text(encoding="ascii")
        jwt.encode({}, key, algorithm="RS256")
    except (OSError, ValueError, TypeError, AttributeError, jwt.PyJWTError) as error:
        raise ConfigurationError(
            "CALLSTATSD_PRIVATE_KEY_FILE must be a PEM file with an RSA private key without a "
            "pass phrase, which this user may read"
        ) from error
    return JwtBearer(client_id, username, key, audience)


def _check(error: Exception) -> str:
    """Return what to check when the token endpoint cannot be reached."""
    match error:
        case aiohttp.ClientConnectorDNSError() | aiohttp.InvalidURL() | UnicodeError():
            return "check CALLSTATSD_TOKEN_URL and this machine's name server"
        case aiohttp.ClientConnectorCertificateError():
            return "check CALLSTATSD_TOKEN_URL, or trust its authority with CALLSTATSD_CA_FILE"
        case aiohttp.ClientHttpProxyError() | aiohttp.ClientProxyConnectionError():
            return "check HTTPS_PROXY and NO_PROXY, or turn CALLSTATSD_ENVIRONMENT_PROXY off"
        case _:
            return "check CALLSTATSD_TOKEN_URL and the network (firewall, proxy)"


def _read_token(status: int, body: bytes, retry_after: str | None) -> Token:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        answer = {}
    if status != 200:
        raise _refusal(status, answer, retry_after)
    token, url = answer.get("access_token"), answer.get("instance_url")
    if not isinstance(token, str) or not is_token(token):
        raise TokenError(
            "no token: the token endpoint's answer has no usable access_token; "
            "check CALLSTATSD_TOKEN_URL",
            refused=True,
        )
    if not isinstance(url, str) or not is_safe_base(url):
        raise TokenError(
            "no token: the token endpoint's answer has no usable instance_url; "
            "check CALLSTATSD_TOKEN_URL",
            refused=True,
        )
    return Token(f"Bearer {token}", url.rstrip("/"))


def is_token(text: str) -> bool:
    """Whether the text is valid in an Authorization header."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def _refusal(status: int, answer: Mapping[str, object], retry_after: str | None) -> TokenError:
    code, says = answer.get("error"), answer.get("error_description")
    code = code if isinstance(code, str) and code in _ADVICE else ""
    phrase = " ".join(says[:_SHORT].lower().split()) if isinstance(says, str) else ""
    advice = _ADVICE.get(code, _APP)
    if "audience" in phrase or "expired" in phrase:
        advice = "check this machine's clock, and the host in CALLSTATSD_TOKEN_URL"
    away = status == 429 or status >= 500
    if away:
        advice = "it is tried again"
    named = "".join((code and f" {code}", f" ({phrase})" if phrase in _PHRASES else ""))
    return TokenError(
        f"no token: the token endpoint answered {status}{named}; {advice}",
        refused=not away,
        retry_after=retry_after_seconds(retry_after, datetime.now(UTC)) if away else None,
    )
