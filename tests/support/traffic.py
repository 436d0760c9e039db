"""Calls that end one after another while a test does something else."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg

from daemon.tasks import sleep_or_stop
from tests.support import rows
from tests.support.calls import record_id


class Traffic:
    """Lets calls of one line each end, on few records in turn; `ended` says how many so far.

    With `callbacks` every call leaves a callback request for the same record, too.
    """

    def __init__(self, dsn: str, *, per_second: float, records: int, callbacks: bool) -> None:
        self.dsn = dsn
        self.per_second = per_second
        self.records = records
        self.callbacks = callbacks
        self.ended = 0
        self.stop = asyncio.Event()
        self.running: asyncio.Task[None] | None = None

    @property
    def lines(self) -> int:
        """How many lines they come to so far."""
        return self.ended * (2 if self.callbacks else 1)

    def start(self) -> None:
        self.running = asyncio.create_task(self.run())

    async def end(self) -> None:
        """Let no more calls end."""
        self.stop.set()
        assert self.running is not None
        await self.running

    async def run(self) -> None:
        """Go on until told to stop."""
        connection = await asyncpg.connect(self.dsn, server_settings={"search_path": "jtelstats"})
        began = time.monotonic()
        try:
            while not self.stop.is_set():
                due = 1 + int((time.monotonic() - began) * self.per_second) - self.ended
                await self.end_calls(connection, due)
                await sleep_or_stop(self.stop, 0.02)
        finally:
            await connection.close()

    async def end_calls(self, connection: asyncpg.Connection, count: int) -> None:
        """Let so many calls end now."""
        now = datetime.now(UTC)
        first = self.ended + 1
        self.ended += count
        if self.callbacks:
            await rows.add(
                connection,
                *(
                    rows.event(
                        number,
                        userdata=record_id(number % self.records),
                        dtcreated=now - timedelta(milliseconds=first + count - number),
                    )
                    for number in range(first, first + count)
                ),
            )
        await rows.add(
            connection,
            *(
                rows.call(
                    number,
                    userdata=record_id(number % self.records),
                    dtcallstart=now - timedelta(seconds=9),
                    dtcallend=now - timedelta(milliseconds=first + count - number),
                )
                for number in range(first, first + count)
            ),
        )


@asynccontextmanager
async def traffic(
    dsn: str, *, per_second: float = 50, records: int = 20, callbacks: bool = False
) -> AsyncIterator[Traffic]:
    """Calls end as long as the block runs."""
    made = Traffic(dsn, per_second=per_second, records=records, callbacks=callbacks)
    made.start()
    try:
        yield made
    finally:
        await made.end()
