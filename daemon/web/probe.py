"""Checks whether the daemon can listen at its address; the daemon itself may be using it."""

import errno
import re
from dataclasses import dataclass

import aiohttp

from daemon.database import network
from daemon.salesforce.transport import first_bytes
from daemon.urls import show_address
from daemon.web.listener import open_sockets

TIMEOUT = 2.0
"""Seconds to wait for the program that uses the address."""
_METRICS_LIMIT = 1024 * 1024
_OURS = re.compile(r'^callstatsd_build_info\{[^}]*ledger="([^"]*)"', re.MULTILINE)
_OTHER_ADDRESS = "write another address into CALLSTATSD_HTTP_LISTEN"


@dataclass(frozen=True, slots=True)
class ListenCheck:
    """Whether the address is free, or used by a daemon of the same ledger; and a sentence."""

    usable: bool
    text: str


async def check_listen_address(
    address: tuple[str, int], ledger: str, seconds: float = TIMEOUT
) -> ListenCheck:
    """Try to listen there; `ledger` is the label by which a daemon of this ledger is known."""
    shown = show_address(address)
    try:
        for listener in await open_sockets(address, queue=1):
            listener.close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            reason = _bind_error(error)
            return ListenCheck(False, f"{shown} cannot be used: {reason}; {_OTHER_ADDRESS}")
        holder = await _ledger_of(shown, seconds)
        if holder == ledger:
            return ListenCheck(True, f"{shown} is in use by a daemon of this ledger")
        who = "another program" if holder is None else "a callstatsd of another ledger"
        return ListenCheck(False, f"{shown} is in use by {who}; {_OTHER_ADDRESS}")
    return ListenCheck(True, f"{shown} is free")


def _bind_error(error: OSError) -> str:
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address"
    if error.errno == errno.EACCES:
        return "only root may use ports below 1024"
    return network.reason(error)


async def _ledger_of(address: str, seconds: float) -> str | None:
    """Return the ledger label of the daemon at an address; None for any other program."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds)) as session,
            session.get(f"http://{address}/metrics", allow_redirects=False) as response,
        ):
            text = (await first_bytes(response.content, _METRICS_LIMIT)).decode("utf-8", "replace")
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None
    match = _OURS.search(text)
    return match[1] if match else None
