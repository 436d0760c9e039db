"""Event loops and exchanges that what is said of connections holds for."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import uvloop

from daemon.salesforce.exchange import MakeExchange, ThroughSession, exchange


class Way(NamedTuple):
    """How a client's requests go."""

    loop_factory: Callable[[], asyncio.AbstractEventLoop]
    make_exchange: MakeExchange


WAYS = {
    "asyncio": Way(asyncio.new_event_loop, exchange),
    "uvloop": Way(uvloop.new_event_loop, exchange),
    "through the session": Way(uvloop.new_event_loop, ThroughSession),
}
