"""An ACD at work: calls start, end, and get their codes, at so many data lines a second."""

import asyncio
import random
import time
from collections import deque
from datetime import UTC, datetime
from itertools import count
from typing import Any

import asyncpg

from daemon.demo.record_ids import ids
from daemon.demo.rows import Call, Code, Leg, Sample, Visit, load
from daemon.tasks import sleep_or_stop
from tests.benchmark.data import KINDS, LINES_PER_CALL, SOURCE

TICK = 0.2
TALK = 5.0
"""Seconds from a call's start to its end."""
WRAP_UP = 3.0
"""Seconds from a call's end to its codes."""
RECORDS = 20_000

END = """
WITH ended AS (
    UPDATE statisticsparta SET dtcallend = clock_timestamp() WHERE id = ANY ($1::bigint[])
    RETURNING id
)
UPDATE statisticspartb SET dtcallend = clock_timestamp()
WHERE statisticspartaid IN (SELECT id FROM ended)
"""


class Acd:
    """Writes its own tables, straight to the database; `lines` says how many have ended."""

    def __init__(self, dsn: str, *, rate: float, seed: int) -> None:
        self.dsn = dsn
        self.rate = rate
        self.lines = 0
        self._chance = random.Random(seed)
        self._numbers = count(1)
        self._talking: deque[tuple[float, int]] = deque()
        self._wrapping_up: deque[tuple[float, int]] = deque()

    async def run(self, stop: asyncio.Event) -> None:
        """Let calls start until `stop`; then let those that are left come to their end."""
        db = await asyncpg.connect(self.dsn, server_settings={"search_path": SOURCE})
        began, started = time.monotonic(), 0
        try:
            while not stop.is_set():
                now = time.monotonic()
                due = int((now - began) * self.rate / LINES_PER_CALL) - started
                started += due
                await self._turn(db, now, due)
                await sleep_or_stop(stop, TICK)
            await self._turn(db, time.monotonic() + TALK, 0)
            await self._turn(db, time.monotonic() + TALK + WRAP_UP, 0)
        finally:
            await db.close()

    async def _turn(self, db: Any, now: float, due: int) -> None:
        """Let calls start that are due, and others end or get their codes."""
        started = [next(self._numbers) for _ in range(due)]
        ended = taken(self._talking, now - TALK)
        coded = taken(self._wrapping_up, now - WRAP_UP)
        moment = datetime.now(UTC)
        sample = Sample(
            [call(number, self._chance.randrange(RECORDS), moment) for number in started],
            [visit for number in started for visit in visits(number, moment)],
            [leg for number in started for leg in legs(number, moment)],
            [code for number in coded for code in codes(number, moment)],
            service_numbers=(),
            users=(),
            groups=(),
            transaction_codes=(),
        )
        async with db.transaction():
            await load(db, sample)
            await db.execute(END, ended)
        self._talking += [(now, number) for number in started]
        self._wrapping_up += [(now, number) for number in ended]
        self.lines += sum(len(lines_of(number)) for number in ended)


def lines_of(number: int) -> list[tuple[int, int, int]]:
    """Visit, leg and code of each line of a call, counted in the call."""
    return KINDS[number % len(KINDS)]


def call(number: int, record: int, moment: datetime) -> Call:
    """A call that has just begun."""
    begun = (moment, moment, moment, None)
    caller, called = "4930231250100", "4989999983001"
    return Call(number, 1, 1 + number % 5, False, caller, called, *begun, 16, ids(record)[1])


def visits(number: int, moment: datetime) -> list[Visit]:
    """The groups that it was routed to."""
    group = 1 + number % 6
    return [
        Visit(number * 2 + visit, number, group, group, None, moment)
        for visit in sorted({visit for visit, _, _ in lines_of(number) if visit})
    ]


def legs(number: int, moment: datetime) -> list[Leg]:
    """The attempts to reach an agent."""
    begun = (moment, moment, moment, None)
    return [
        Leg(number * 4 + leg, number, number * 2 + visit, 1 + number % 38, *begun, 1, 16)
        for visit, leg in sorted({(visit, leg) for visit, leg, _ in lines_of(number) if leg})
    ]


def codes(number: int, moment: datetime) -> list[Code]:
    """What agents recorded after it."""
    agent, kind = 1 + number % 38, 1 + number % 6
    return [
        Code(number * 2 + code, number, number * 2 + visit, number * 4 + leg, kind, agent, moment,
             None)
        for visit, leg, code in lines_of(number)
        if code
    ]  # fmt: skip


def taken(waiting: deque[tuple[float, int]], until: float) -> list[int]:
    """Take the calls that have waited since `until` or longer."""
    found = []
    while waiting and waiting[0][0] <= until:
        found.append(waiting.popleft()[1])
    return found
