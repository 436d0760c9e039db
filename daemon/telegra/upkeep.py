"""What is due at its time: ends of calls, codes that waited, gaps in the ledger, retention."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from typing import Any, NamedTuple

import structlog

from daemon import logs, metrics
from daemon.errors import UnusableError
from daemon.ledger.gaps import GapStore
from daemon.tasks import run_within
from daemon.telegra.reading import TelegraReader
from daemon.telegra.receiver import Gap, Receiver
from daemon.telegra.store import MAX_BATCH, TelegraStore

_log = structlog.get_logger()

ENDS_EVERY = 0.5
"""Seconds between two looks for ends that are due."""
CODES_EVERY = 5.0
"""Seconds between two looks for classifications that wait although their call is known."""
GAPS_EVERY = 1.0
"""Seconds between two looks for refusals to note; as long none may have come."""
GAPS_AT_LEAST_EVERY = 5.0
"""Seconds after which refusals that go on are noted nevertheless."""
NOTES_WITHIN = 2.0
"""Seconds for the ledger to take the last gap, at the end."""
COUNT_EVERY = 5.0
"""Seconds between two counts for the metrics."""
PRUNE_EVERY = 600.0
"""Seconds between two rounds of retention."""
PRUNED_AT_ONCE = 1000
"""Rows of a kind that go in one transaction."""


class Ages(NamedTuple):
    """How long things are kept, calls may last, and codes wait."""

    retention: timedelta
    stale_call_after: timedelta
    lookback: timedelta


class Upkeep:
    """Runs in every instance; retention only where `is_active`."""

    def __init__(
        self,
        store: TelegraStore,
        receiver: Receiver,
        gaps: GapStore,
        ages: Ages,
        is_active: Callable[[], bool],
    ) -> None:
        self._store = store
        self._receiver = receiver
        self._gaps = gaps
        self._ages = ages
        self._is_active = is_active

    async def run(self) -> None:
        """Work until cancelled; a database that is away is waited for."""
        async with asyncio.TaskGroup() as group:
            group.create_task(_every(ENDS_EVERY, self.write_ends))
            group.create_task(_every(CODES_EVERY, self._store.bind_waiting))
            group.create_task(_every(GAPS_EVERY, self.note_gap))
            group.create_task(_every(COUNT_EVERY, self.count))
            group.create_task(_every(PRUNE_EVERY, self.prune))

    async def write_ends(self) -> None:
        """Write all ends that are due."""
        ended = await self._store.write_ends()
        for call in ended:
            if call.incomplete:
                _log.warning(logs.TELEGRA_INCOMPLETE, call_id=call.id)
        if len(ended) == MAX_BATCH:
            await self.write_ends()

    async def note_last_gap(self) -> None:
        """Log what was just refused, as the process ends, and write it where the ledger answers."""
        gap = self._receiver.refused(quiet=0)
        if gap is None:
            return
        _log_gap(gap)
        with suppress(UnusableError):
            await run_within(NOTES_WITHIN, self._gaps.note_gap(*gap))

    async def note_gap(self) -> None:
        """Write into the ledger what was refused, once nothing more is, or for long enough."""
        gap = self._receiver.refused(GAPS_EVERY, GAPS_AT_LEAST_EVERY)
        if gap is None:
            return
        try:
            await self._gaps.note_gap(*gap)
        except BaseException:
            self._receiver.restore(gap)
            raise
        _log_gap(gap)

    async def count(self) -> None:
        """Set the gauges."""
        reader = TelegraReader(self._store.database)
        found = await reader.overview(self._ages.stale_call_after, self._ages.lookback)
        metrics.TELEGRA_OPEN_CALLS.set(found.open_calls)
        metrics.TELEGRA_WAITING_CODES.set(found.waiting_codes)

    async def prune(self) -> None:
        """Remove what is old enough, in small batches."""
        began, removed = time.monotonic(), 0
        while self._is_active() and (
            done := await self._store.prune(self._ages.retention, PRUNED_AT_ONCE)
        ):
            removed += done
            await asyncio.sleep(0)
        if self._is_active():
            await self._gaps.prune_gaps(self._ages.retention.total_seconds())
        if removed:
            seconds = round(time.monotonic() - began, 3)
            _log.info(logs.RETENTION_PRUNED, telegra_rows=removed, seconds=seconds)


def _log_gap(gap: Gap) -> None:
    _log.warning(logs.TELEGRA_GAP, since=gap.since, until=gap.until, refused=gap.refused)


async def _every(seconds: float, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
    while True:
        try:
            await work()
        except UnusableError as error:
            _log.debug(logs.TELEGRA_WAITING, error=str(error))
        await asyncio.sleep(seconds)
