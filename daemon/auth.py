"""Tokens for Salesforce: one at a time, shared by all requests, renewed once when refused."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import aiohttp
import structlog

from daemon import logs
from daemon.errors import CallstatsdError, ConfigurationError
from daemon.outcome import Answer, NoAnswer

_log = structlog.get_logger()

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
    """No token could be had; `answer` says whether anybody answered, the message what to do."""

    exit_code = 69

    def __init__(self, message: str, answer: Answer | NoAnswer) -> None:
        """Keep the answer for the sender to classify."""
        super().__init__(message)
        self.answer = answer


class Tokens(Protocol):
    """Where the sender gets its tokens."""

    async def token(self) -> Token:
        """Return the token in use; raises `TokenError`."""

    async def renew(self, refused: Token) -> Token:
        """Return a token other than the refused one; raises `TokenError`."""


class FixedToken:
    """A token of the administrator's own, or none: renewing gives the same again."""

    def __init__(self, bearer: str | None) -> None:
        """Take the bearer token; None sends no Authorization header."""
        self._token = Token(f"Bearer {bearer}" if bearer else None, None)

    async def token(self) -> Token:
        """Return it."""
        return self._token

    async def renew(self, refused: Token) -> Token:
        """Return the same: there is no other."""
        return refused


class OAuthTokens:
    """Fetches tokens from the token endpoint, one request at a time for all who wait.

    Each answer's `instance_url` is used with its token. There is no `expires_in`: a token is used
    until it is refused.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, grant: "Grant") -> None:
        """Take the token endpoint and the flow that fills its form."""
        self._session = session
        self._url = url
        self._grant = grant
        self._token: Token | None = None
        self._turn = asyncio.Lock()

    async def token(self) -> Token:
        """Return the token in use; fetch the first one."""
        return self._token or await self.renew(None)

    async def renew(self, refused: Token | None) -> Token:
        """Fetch a new token, unless another request did since `refused` was handed out."""
        async with self._turn:
            if self._token is not None and self._token is not refused:
                return self._token
            self._token = await self._fetch()
            _log.info(logs.TOKEN_REFRESHED, instance_url=self._token.instance_url)
            return self._token

    async def _fetch(self) -> Token:
        try:
            async with self._session.post(
                self._url, data=self._grant.form(), allow_redirects=False
            ) as response:
                answer = await response.json(content_type=None)
                if response.status != 200 or not isinstance(answer, dict):
                    raise _refused(response.status, answer)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            host = urlsplit(self._url).hostname
            raise TokenError(
                f"the token endpoint at {host} cannot be reached: {type(error).__name__}",
                NoAnswer(sent=False, error=f"token endpoint: {type(error).__name__}"),
            ) from error
        except ValueError as error:
            raise _refused(200, None) from error
        try:
            return Token(f"Bearer {answer['access_token']}", answer["instance_url"].rstrip("/"))
        except (KeyError, AttributeError) as error:
            raise _refused(200, None) from error


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
        import jwt  # noqa: F401, PLC0415
    except ImportError as error:
        raise ConfigurationError(
            "CALLSTATSD_AUTH=jwt_bearer needs PyJWT: pip install 'callstatsd[jwt]'"
        ) from error
    host = urlsplit(token_url).hostname or ""
    sandbox = host == "test.salesforce.com" or ".sandbox." in host
    audience = "https://test.salesforce.com" if sandbox else "https://login.salesforce.com"
    try:
        key = key_file.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"CALLSTATSD_PRIVATE_KEY_FILE cannot be read as PEM: {type(error).__name__}"
        ) from error
    return JwtBearer(client_id, username, key, audience)


def _refused(status: int, answer: object) -> TokenError:
    code = str(answer.get("error", "")) if isinstance(answer, dict) else ""
    says = str(answer.get("error_description", "")) if isinstance(answer, dict) else ""
    advice = {
        "invalid_client_id": "check CALLSTATSD_CLIENT_ID",
        "invalid_client": "check CALLSTATSD_CLIENT_ID and CALLSTATSD_CLIENT_SECRET",
        "unsupported_grant_type": "enable this flow in the connected app",
        "invalid_grant": "check the login, that the flow is enabled and its run-as user active",
        "invalid_app_access": "let the run-as user use the connected app",
    }.get(code, "check CALLSTATSD_TOKEN_URL and the connected app")
    if "audience" in says or "expired" in says:
        advice = "check this machine's clock, and the host in CALLSTATSD_TOKEN_URL"
    named = f" {code} ({says})" if code else ""
    return TokenError(
        f"no token: the token endpoint answered {status}{named}; {advice}",
        Answer(503 if status >= 500 else 401, ""),
    )
