"""The demo's questions of click to dial, asked through the daemon's listener."""

import secrets
from collections import Counter
from collections.abc import Mapping

import aiohttp

from daemon.demo.faults import ClosableServer
from daemon.demo.record_ids import ids
from daemon.demo.standin import DIAL_PATH

SECONDS = 10.0
"""Seconds to wait for an answer."""
ENDINGS = ("", "404", "409")
"""Ends of records that may be called, that are not there, and that must not be called."""
OUTCOMES = {200: "allowed", 403: "forbidden", 404: "not found", 503: "Salesforce away"}


def settings(port: int) -> dict[str, str]:
    """Return the settings of a daemon that listens at a port of loopback."""
    return {
        "CALLSTATSD_CLICK_TO_DIAL_URL": DIAL_PATH,
        "CALLSTATSD_API_LISTEN": f"127.0.0.1:{port}",
        "CALLSTATSD_API_TOKEN": secrets.token_hex(16),
    }


async def ask_all(environment: Mapping[str, str], server: ClosableServer) -> Counter[str]:
    """Ask about three records, and once with Salesforce away; returns what was answered."""
    answers = [await _ask(environment, ending) for ending in ENDINGS]
    await server.close()
    try:
        answers.append(await _ask(environment, ""))
    finally:
        await server.open()
    return Counter(OUTCOMES.get(status, str(status)) for status in answers)


async def _ask(environment: Mapping[str, str], ending: str) -> int:
    """Return the status of the answer."""
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session,
        session.get(
            f"http://{environment['CALLSTATSD_API_LISTEN']}/onClickToDial",
            params={
                "SalesForceID": ids(1, ending)[1],
                "CallerID": "+49 (0)221 2601-599",
                "AgentUID": "agent.y",
            },
            headers={"Authorization": f"Bearer {environment['CALLSTATSD_API_TOKEN']}"},
        ) as response,
    ):
        return response.status
