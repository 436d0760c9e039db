"""Asks who answers at an address that is set, by GET alone: no line is sent, nothing changed."""

import asyncio
import errno
import json
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from daemon.database import network
from daemon.delivery.outcome import PauseSender, classify
from daemon.lines import PauseReason
from daemon.salesforce.client import EndpointUrl, Session
from daemon.salesforce.oauth import Token
from daemon.salesforce.responses import Response
from daemon.salesforce.transport import BODY_LIMIT, begin_request, first_bytes, in_words

LISTENER_ANSWERS = 2.0
"""Seconds to wait for whoever has the address of HTTP_LISTEN."""
_OURS = re.compile(r'^callstatsd_build_info\{[^}]*ledger="([^"]*)"', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Probe:
    """What was seen, in a sentence; `exit_code` is 0 if that is as it should be."""

    exit_code: int
    text: str


async def probe(session: Session, endpoint: EndpointUrl, token: Token) -> Probe:
    """GET the endpoint with the token; Apex answers 405 where a class has only @HttpPost."""
    url = endpoint.under(token.instance_url)
    headers = {"Authorization": token.authorization} if token.authorization else {}
    begin_request()
    try:
        async with session.get(url, headers=headers, allow_redirects=False) as response:
            body = await first_bytes(response.content, BODY_LIMIT)
            return _judge(Response(response.status, body.decode("utf-8", "replace")), url)
    except (aiohttp.ClientError, TimeoutError, OSError, UnicodeError) as error:
        return Probe(
            69,
            f"{urlsplit(url).netloc} cannot be reached: {in_words(error)}; check the "
            "network, CALLSTATSD_ENDPOINT_URL, CALLSTATSD_CA_FILE and CALLSTATSD_ENVIRONMENT_PROXY",
        )


def _judge(answer: Response, url: str) -> Probe:
    """Say what an answer to GET means; anything in a class's own words means that it is there."""
    status = answer.status
    platform = _is_platform_error(answer.body)
    match status:
        case 405:
            return Probe(0, f"{url} is there (it takes no GET, as it should)")
        case 404 if platform:
            return Probe(
                78,
                f"no Apex REST class answers at {url}: deploy it, correct its urlMapping, or "
                "correct CALLSTATSD_ENDPOINT_URL",
            )
        case 401:
            return Probe(78, f"{url} refuses the token (401): {_LOGIN}")
        case 403:
            return _forbidden(answer, url)
        case 429 | 502 | 503 | 504:
            return Probe(69, f"{url} is not available now ({status}): try again later")
    if 300 <= status < 400:
        return Probe(
            78,
            f"{url} sends elsewhere ({status}): write the org's present address into "
            "CALLSTATSD_ENDPOINT_URL or CALLSTATSD_TOKEN_URL",
        )
    if answer.body.lstrip()[:1] == "<":
        return Probe(
            78, f"{url} answers with a web page ({status}): correct CALLSTATSD_ENDPOINT_URL"
        )
    return Probe(0, f"{url} is there (it answers GET with {status})")


_LOGIN = "give the connected app the scope api, or correct CALLSTATSD_AUTH and what belongs to it"


def _forbidden(answer: Response, url: str) -> Probe:
    outcome = classify(answer)
    if isinstance(outcome, PauseSender) and outcome.reason is PauseReason.API_LIMIT:
        return Probe(69, "the org's daily API calls are used up: wait, or ask for more")
    return Probe(
        78,
        f"{url} refuses the run-as user (403): give it a permission set with API Enabled and "
        "Apex class access to the endpoint",
    )


def _is_platform_error(body: str) -> bool:
    """Whether Salesforce itself answered, not a class: it sends an array of error codes."""
    try:
        errors = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(errors, list) and any(
        isinstance(error, dict) and "errorCode" in error for error in errors
    )


async def listener(address: tuple[str, int], ledger: str) -> Probe:
    """Say whether the daemon can listen there: it may itself be running (`ledger` is its name)."""
    host, port = address
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        found = await asyncio.get_running_loop().getaddrinfo(*address, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, resolved in found:
            with socket.socket(family, kind, protocol) as attempt:
                attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                attempt.bind(resolved)
                attempt.listen(1)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return Probe(1, f"{shown} cannot be used: {_bind_fault(error)}; {_OTHER_ADDRESS}")
        holder = await _holder(shown)
        if holder == ledger:
            return Probe(0, f"{shown} is in use by a daemon of this ledger")
        who = "another program" if holder is None else "a callstatsd of another ledger"
        return Probe(1, f"{shown} is in use by {who}; {_OTHER_ADDRESS}")
    return Probe(0, f"{shown} is free")


_OTHER_ADDRESS = "write another address into CALLSTATSD_HTTP_LISTEN"


def _bind_fault(error: OSError) -> str:
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address"
    if error.errno == errno.EACCES:
        return "only root may use ports below 1024"
    return network.reason(error)


async def _holder(address: str) -> str | None:
    """Return which ledger's daemon answers at an address; None for any other program."""
    timeout = aiohttp.ClientTimeout(total=LISTENER_ANSWERS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"http://{address}/metrics", allow_redirects=False) as response,
        ):
            text = (await first_bytes(response.content, 16 * BODY_LIMIT)).decode("utf-8", "replace")
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None
    match = _OURS.search(text)
    return match[1] if match else None
