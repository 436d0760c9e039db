"""Retention: drops the records of settled lines, and later the lines themselves."""

import asyncio
from dataclasses import dataclass

import structlog

from daemon import logs
from daemon.errors import UnusableError
from daemon.ledger.pruning import PruningStore
from daemon.lines import FeedName
from daemon.tasks import sleep_or_stop

_log = structlog.get_logger()

EVERY = 600.0
"""Seconds between two rounds."""
BATCH = 1000
"""Lines in one transaction, so that nobody waits for it."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one round removed."""

    records: int
    lines: int
    acts: int = 0


class Pruner:
    """Removes what nobody needs any more: lines, and acts that no line refers to.

    Never a `pending`, `rejected`, `expired` or `invalid` line, and nothing while a backfill runs,
    which must know what was sent. A line that a sweep may still compare with is younger
    than RETENTION by the settings' bounds.
    """

    def __init__(self, ledger: PruningStore, retention: float, record_retention: float) -> None:
        """Take both ages in seconds since the line was settled."""
        self._ledger = ledger
        self._retention = retention
        self._record_retention = record_retention

    async def run(self, stop: asyncio.Event, *swept: asyncio.Event) -> None:
        """Prune every `EVERY` seconds until `stop`, once the first wide sweeps are completed."""
        for feed_swept in swept:
            await feed_swept.wait()
        while not stop.is_set():
            try:
                await self.prune(stop)
            except UnusableError as error:
                _log.debug(logs.RETENTION_FAILED, error=str(error))
            await sleep_or_stop(stop, EVERY)

    async def prune(self, stop: asyncio.Event) -> Pruned:
        """Remove all that is old enough, in small batches."""
        records = lines = acts = 0
        for feed in FeedName:
            while not stop.is_set() and (
                n := await self._ledger.prune(feed, self._retention, BATCH)
            ):
                lines += n
        while not stop.is_set() and (n := await self._ledger.prune_acts(self._retention, BATCH)):
            acts += n
        for feed in FeedName:
            while not stop.is_set() and (
                n := await self._ledger.drop_records(feed, self._record_retention, BATCH)
            ):
                records += n
        while not stop.is_set() and await self._ledger.prune_lanes(BATCH):
            pass
        await self._ledger.prune_streaks()
        while not stop.is_set() and await self._ledger.prune_alerts(self._retention, BATCH):
            pass
        if records or lines or acts:
            _log.info(logs.RETENTION_PRUNED, records=records, lines=lines, acts=acts)
        return Pruned(records, lines, acts)
