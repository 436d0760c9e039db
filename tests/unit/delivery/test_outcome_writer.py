"""The writer over a ledger that the test answers for."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

from daemon.database.pool import Database
from daemon.delivery.outcome import Delivered
from daemon.delivery.outcome_writer import AttemptResult, OutcomeWriter
from daemon.ledger.store import Ledger
from daemon.lines import LineKey, PendingLine, Settlement, State

PATIENCE = 10.0


class SlowLedger(Ledger):
    """Takes outcomes when it is told to; `together` is how many writes there were at once."""

    def __init__(self) -> None:
        super().__init__(cast("Database", None))
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self.written: list[LineKey] = []
        self.under_way = self.together = 0

    async def settle(
        self, settlements: Sequence[Settlement], retry_for: float, *, again: bool = False
    ) -> dict[LineKey, tuple[State, int]]:
        self.under_way += 1
        self.together = max(self.together, self.under_way)
        self.asked.set()
        await self.go_on.wait()
        self.under_way -= 1
        self.written += [settlement.key for settlement in settlements]
        return {settlement.key: (State.DELIVERED, 1) for settlement in settlements}


def delivered(number: int) -> AttemptResult:
    key, now = LineKey(number, 0, 0, 0), datetime.now(UTC)
    line = PendingLine(key, 1, False, now, 1, str(number), None, "{}", 0, 0, 0)
    settlement = Settlement(key, 1, str(number), State.DELIVERED, sent=True, age=0.1)
    return AttemptResult(line, 0.1, Delivered(200, expected=True), settlement)


async def test_a_write_under_way_at_a_forced_exit_is_awaited_and_not_repeated() -> None:
    ledger = SlowLedger()
    writer = OutcomeWriter(ledger, 60.0)
    writer.add(delivered(1))
    running = asyncio.create_task(writer.run())
    async with asyncio.timeout(PATIENCE):
        await ledger.asked.wait()
        running.cancel()
        await asyncio.wait({running})  # longer than a cancelled caller waits for the ledger
        writer.add(delivered(2))
        finishing = asyncio.create_task(writer.finish(PATIENCE))
        await asyncio.sleep(0)
        ledger.go_on.set()
        await finishing
    assert ledger.written == [LineKey(1, 0, 0, 0), LineKey(2, 0, 0, 0)]
    assert ledger.together == 1
    assert writer.waiting == 0
