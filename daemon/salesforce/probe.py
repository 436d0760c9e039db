"""Checks the endpoint with a GET: nothing is sent or changed."""

from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from daemon.salesforce.client import EndpointUrl, Session
from daemon.salesforce.oauth import Token
from daemon.salesforce.responses import platform_errors
from daemon.salesforce.transport import BODY_LIMIT, begin_request, describe, first_bytes


@dataclass(frozen=True, slots=True)
class EndpointCheck:
    """What the endpoint answered, in a sentence; `exit_code` is 0 if lines can be sent there."""

    exit_code: int
    text: str


async def check_endpoint(session: Session, endpoint: EndpointUrl, token: Token) -> EndpointCheck:
    """GET the endpoint with the token; Apex answers 405 where a class has only @HttpPost."""
    url = endpoint.under(token.instance_url)
    headers = {"Authorization": token.authorization} if token.authorization else {}
    begin_request()
    try:
        async with session.get(url, headers=headers, allow_redirects=False) as response:
            body = await first_bytes(response.content, BODY_LIMIT)
            return assess(response.status, body.decode("utf-8", "replace"), url)
    except (aiohttp.ClientError, TimeoutError, OSError, UnicodeError) as error:
        return EndpointCheck(
            69,
            f"{urlsplit(url).netloc} cannot be reached: {describe(error)}; check the "
            "network, CALLSTATSD_ENDPOINT_URL, CALLSTATSD_CA_FILE and CALLSTATSD_ENVIRONMENT_PROXY",
        )


def assess(status: int, body: str, url: str) -> EndpointCheck:
    """Interpret the response to a GET; any response of an Apex class means that it is deployed."""
    errors = {code for code, _ in platform_errors(body)}
    match status:
        case 405:
            return EndpointCheck(0, f"{url} exists (it answers 405 to GET, as expected)")
        case 404 if errors:
            return EndpointCheck(
                78,
                f"no Apex REST class answers at {url}: deploy it, correct its urlMapping, or "
                "correct CALLSTATSD_ENDPOINT_URL",
            )
        case 401:
            return EndpointCheck(
                78,
                f"{url} refuses the token (401): give the connected app the scope api, or correct "
                "CALLSTATSD_AUTH and its settings",
            )
        case 403 if "REQUEST_LIMIT_EXCEEDED" in errors:
            return EndpointCheck(69, "the org's daily API calls are used up: wait, or ask for more")
        case 403:
            return EndpointCheck(
                78,
                f"{url} refuses the run-as user (403): give it a permission set with API Enabled "
                "and Apex class access to the endpoint",
            )
        case 429 | 502 | 503 | 504:
            return EndpointCheck(69, f"{url} is not available now ({status}): try again later")
    if 300 <= status < 400:
        return EndpointCheck(
            78,
            f"{url} redirects ({status}): write the org's present address into "
            "CALLSTATSD_ENDPOINT_URL or CALLSTATSD_TOKEN_URL",
        )
    if body.lstrip()[:1] == "<":
        return EndpointCheck(
            78, f"{url} answers with a web page ({status}): correct CALLSTATSD_ENDPOINT_URL"
        )
    return EndpointCheck(0, f"{url} exists (it answers {status} to GET)")
