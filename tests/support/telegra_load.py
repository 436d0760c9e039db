"""An ACD under load: notifications at a rate, over kept connections, and how each was answered."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from statistics import quantiles
from typing import NamedTuple

from tests.support.telegra_centre import TOKEN

KINDS = ("CallStart", "WaitingQueue", "Alerting", "Connected", "Holdstart", "Holdstop", "Working")
"""What is told of a call, one after another; its end follows."""
CONNECTIONS = 250
"""More than may wait for an answer at once, and fewer than the listener takes."""

_numbers = count(1)


@dataclass(slots=True)
class Answers:
    """How notifications were answered: statuses, seconds each took, and the ids of kept ones."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)

    def percentile(self, percent: int) -> float:
        """Return the seconds within which so many of 100 were answered."""
        return quantiles(self.seconds, n=100, method="inclusive")[percent - 1]


class Client(NamedTuple):
    """A connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def tell(self, number: int) -> int:
        """Send the notification of this number; returns the status."""
        call, step = divmod(number, len(KINDS) + 1)
        kind = (*KINDS, "CallEnd")[step]
        self.writer.write(
            f"GET /telegra/{TOKEN}?cmd=callevent&id={number}&taskid={call:x}&eventtype={kind}"
            f"&mode=0&hotlineid=7&groupid=40&agentid={100_000 + call % 100}&customerNumber=4711"
            f"&callingnumber=%2B49221{call}&eventtime={time.time() * 1000:.0f} HTTP/1.1\r\n"
            "Host: acd\r\n\r\n".encode()
        )
        head = await self.reader.readuntil(b"\r\n\r\n")
        return int(head[9:12])


@asynccontextmanager
async def clients(port: int, connections: int = CONNECTIONS) -> AsyncIterator[list[Client]]:
    """Open connections that stay."""
    opened = [Client(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(connections)]
    try:
        yield opened
    finally:
        for client in opened:
            client.writer.close()


async def tell_at(port: int, rate: float | None, number: int) -> Answers:
    """Tell so many notifications at a rate each second, or as fast as they are answered."""
    answers, began = Answers(), time.perf_counter()
    due = iter(range(number))

    async def use(client: Client) -> None:
        for turn in due:
            at = began + turn / rate if rate else time.perf_counter()
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            told = next(_numbers)
            status = await client.tell(told)
            # From when it was due: who waits for a connection waits, too.
            answers.seconds.append(time.perf_counter() - at)
            answers.statuses[status] += 1
            if status == 200:
                answers.kept.append(told)

    async with clients(port) as opened:
        began = time.perf_counter()
        await asyncio.gather(*map(use, opened))
    return answers
