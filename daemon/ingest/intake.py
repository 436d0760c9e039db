"""From chosen rows to lines in the ledger: read, make the record once, insert what is new."""

import time
from collections.abc import Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from daemon import logs, metrics
from daemon.ingest.feed import UNREADABLE, Feed, RowRef
from daemon.ledger.taking import TakingStore
from daemon.lines import Covered, FeedName, LineKey, NewLine, SkipReason, State

_log = structlog.get_logger()


@dataclass(slots=True)
class TakeResult:
    """What a poll or sweep took: lines new to the ledger, and the calls they belong to."""

    lines: int = 0
    call_ids: set[int] = field(default_factory=set)

    def add(self, new: Collection[LineKey]) -> None:
        """Count new lines."""
        self.lines += len(new)
        self.call_ids.update(key.call_id for key in new)


class Intake:
    """Takes lines of a feed into the ledger; polls, sweeps and backfills share it."""

    def __init__(self, feed: Feed, ledger: TakingStore) -> None:
        self._feed = feed
        self._ledger = ledger

    async def take(
        self,
        found: Sequence[RowRef],
        *,
        whole: bool = True,
        covered: Covered | None = None,
        backfill: bool = False,
    ) -> set[LineKey]:
        """Read the lines of rows and insert those that are new; returns their keys.

        Without `whole` only the rows' own lines are taken. Lines are inserted a few at a time, each
        batch in its own transaction; the last one stores how far all is covered.
        """
        new: set[LineKey] = set()
        ready: list[NewLine] = []
        async with aclosing(self._feed.new_lines(found, whole=whole)) as pages:
            async for lines in pages:
                if ready:
                    new |= await self.insert(ready, backfill=backfill)
                ready = lines
        return new | await self.insert(ready, covered=covered, backfill=backfill)

    async def insert(
        self,
        lines: Sequence[NewLine],
        *,
        covered: Covered | None = None,
        backfill: bool = False,
        act: int | None = None,
    ) -> set[LineKey]:
        """Insert lines that are new, and store how far all is covered; returns the new keys.

        `act` is the backfill that takes them.
        """
        new = await self._ledger.take(
            self._feed.name, lines, covered=covered, backfill=backfill, act=act
        )
        _log_settled(lines, new)
        return new

    async def look_for_ids(self, since: datetime, floor: datetime) -> set[LineKey]:
        """Update skipped lines that have a Salesforce id by now; returns their keys.

        Considers lines whose call ended, or which were taken, after `since`; none before `floor`.
        """
        identified: set[LineKey] = set()
        name, reason = self._feed.name, SkipReason.NO_ID
        async for keys in self._ledger.without_id(name, since, floor, reason):
            lines = [
                line
                for line in await self._feed.lines_by_key(keys)
                if line.salesforce_id is not None
                or (line.state is State.INVALID and line.error != UNREADABLE)
            ]
            if lines:
                found = await self._ledger.identify(name, lines, reason)
                _log_settled(lines, found)
                identified |= found
        return identified


def log_taken(feed: FeedName, taken: TakeResult, started: float, *, late: bool = False) -> None:
    """Log and count a feed's new lines; `started` is by `time.perf_counter`."""
    if not taken.lines:
        return
    about: dict[str, object] = {"late": True} if late else {}
    if feed is FeedName.STATISTICS:
        (metrics.LATE if late else metrics.TAKEN).inc(taken.lines)
        about["calls"] = len(taken.call_ids)
    else:
        metrics.CALLBACKS_TAKEN.inc(taken.lines)
        about["feed"] = feed.value
    _log.info(
        logs.POLL_TAKEN,
        lines=taken.lines,
        seconds=round(time.perf_counter() - started, 3),
        **about,
    )


def _log_settled(lines: Sequence[NewLine], changed: Collection[LineKey]) -> None:
    """Log and count those of the changed lines that are not to be sent."""
    for line in lines:
        if line.state is not State.PENDING and line.key in changed:
            metrics.count_lines(line.key.feed, line.state)
            log = _log.debug if line.state is State.SKIPPED else _log.warning
            log(
                logs.LINE_EVENTS[line.state],
                **line.key.log_fields,
                salesforce_id=line.salesforce_id,
                status=None,
                attempt=0,
                seconds=None,
                error=line.error,
            )
