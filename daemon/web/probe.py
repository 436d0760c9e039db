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
_HTTP, _API = "CALLSTATSD_HTTP_LISTEN", "CALLSTATSD_API_LISTEN"


@dataclass(frozen=True, slots=True)
class ListenCheck:
    """Whether the address is free, or used by a daemon of the same ledger; and a sentence."""

    usable: bool
    text: str


async def check_listen_address(
    address: tuple[str, int], ledger: str, seconds: float = TIMEOUT
) -> ListenCheck:
    """Try to listen there; `ledger` is the label by which a daemon of this ledger is known."""
    found = await _try_to_listen(address, _HTTP)
    if found is not None:
        return found
    shown = show_address(address)
    holder = await _ledger_of(shown, seconds)
    if holder == ledger:
        return ListenCheck(True, f"{shown} is in use by a daemon of this ledger")
    who = "another program" if holder is None else "a callstatsd of another ledger"
    return ListenCheck(False, f"{shown} is in use by {who}; {_other_address(_HTTP)}")


async def check_api_address(address: tuple[str, int], *, daemon_runs: bool | None) -> ListenCheck:
    """Try to listen at the address of the API, which does not say who serves it.

    `daemon_runs` if a daemon of this ledger may be using it; None if that is unknown.
    """
    found = await _try_to_listen(address, _API)
    if found is not None:
        return found
    shown = show_address(address)
    if daemon_runs is None:
        return ListenCheck(True, f"{shown} is in use, perhaps by a daemon of this ledger")
    if daemon_runs:
        return ListenCheck(True, f"{shown} is in use while a daemon of this ledger runs")
    text = f"{shown} is in use by another program; {_other_address(_API)}"
    return ListenCheck(False, text)


async def _try_to_listen(address: tuple[str, int], setting: str) -> ListenCheck | None:
    """Return whether that is possible; None if the address is in use."""
    shown = show_address(address)
    try:
        for listener in await open_sockets(address, queue=1):
            listener.close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return None
        reason = _bind_error(error)
        return ListenCheck(False, f"{shown} cannot be used: {reason}; {_other_address(setting)}")
    return ListenCheck(True, f"{shown} is free")


def _other_address(setting: str) -> str:
    return f"write another address into {setting}"


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
