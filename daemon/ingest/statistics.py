"""The feed of call statistics: which calls and codes are due, and their lines with records."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Container, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from daemon.errors import InvalidLineError, UnreadableRowError
from daemon.ingest.feed import UNREADABLE, Due, Page, RowRef, invalid
from daemon.ingest.filters import Filters
from daemon.ingest.reader import by_halves
from daemon.ingest.readiness import Clock, ReadinessRules, Window
from daemon.ingest.record import call_statistics, lane, to_json
from daemon.ingest.source import Source
from daemon.lines import (
    KEPT_OUT,
    NO_ID,
    NON_NUMERIC_ID,
    NOT_AN_ID,
    Covered,
    DataLine,
    Digest,
    FeedName,
    LineKey,
    NewLine,
    SkipReason,
    State,
)

AT_ONCE = 10
"""Records to make in one step of the event loop: about a millisecond."""


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """How records are written: the ACD server's zone, what empty looks like, what is sent."""

    zone: ZoneInfo
    empty_as_string: bool
    send_without_id: bool
    filters: Filters | None = None

    def new_line(self, line: DataLine) -> NewLine:
        """Freeze a line's record, or the reason why it has none."""
        try:
            if self.filters is not None and (setting := self.filters.keeping_out(line)):
                return _filtered(line, setting)
            record = call_statistics(line, self.zone)
        except InvalidLineError as error:
            return invalid(line.key, line.ordinal, line.call_ended, str(error))
        skipped = record.SalesForceID is None and not self.send_without_id
        return NewLine(
            key=line.key,
            ordinal=line.ordinal,
            lane=lane(line.key, record.SalesForceID),
            salesforce_id=record.SalesForceID,
            call_ended=line.call_ended,
            state=State.SKIPPED if skipped else State.PENDING,
            record=to_json(record, self.empty_as_string).decode(),
            error=NO_ID if skipped else None,
            skip_reason=SkipReason.NO_ID if skipped else None,
        )


class StatisticsFeed:
    """Calls by their end, codes by when they were recorded, and calls without an end."""

    name = FeedName.STATISTICS

    def __init__(self, source: Source, rules: ReadinessRules, options: RecordOptions) -> None:
        self._source = source
        self._options = options
        self.rules = rules

    async def prepare(self) -> None:
        """Fit the statements to the column types; raises `ConfigurationError` per wrong column."""
        await self._source.prepare()

    async def clock(self) -> Clock:
        """Return the source's time."""
        return await self._source.clock()

    async def due(
        self, covered: Covered, floor: datetime, clock: Clock
    ) -> AsyncGenerator[Due, None]:
        """Yield codes of calls that were taken before, then calls that became ready."""
        windows = self.rules.poll(covered, floor, clock)
        limit = self.rules.covered_by(clock)
        # Codes of calls that were read before; those read below are taken whole, in their order.
        async for page in self._source.late_codes(windows.codes, windows.ready):
            yield Due(page, None)
        async for page in self._source.never_ended(windows.never_ended):
            yield Due(page, None)
        async for page in self._source.ended(windows.ended):
            yield Due(page, limit._replace(watermark=min(page.covered, limit.watermark)))
        yield Due(Page([], limit.watermark), limit)

    async def late(
        self, window: Window, floor: datetime, clock: Clock, *, wide: bool
    ) -> AsyncGenerator[Page, None]:
        """Yield calls, with all their codes, then the window's codes of earlier calls."""
        windows = self.rules.sweep(window, floor, clock, wide=wide)
        async for page in self._source.ended(windows.ended):
            yield page
        async for page in self._source.never_ended(windows.never_ended):
            yield page
        async for page in self._source.late_codes(windows.codes, windows.ready):
            yield page

    def ready_in(self, window: Window) -> AsyncIterator[Page]:
        """Yield the calls that ended in the window."""
        return self._source.ended(window)

    async def count(self, window: Window) -> int:
        """Return how many calls ended in the window."""
        return await self._source.count_ended(window)

    async def keys(self, call_ids: Sequence[int]) -> list[LineKey]:
        """Return the keys of the calls' lines, in no order."""
        return await self._source.keys(call_ids)

    async def digest(self, call_ids: Sequence[int]) -> Digest:
        """Return what these keys come to."""
        return await self._source.digest(call_ids)

    async def new_lines(
        self, found: Sequence[RowRef], *, whole: bool = True
    ) -> AsyncGenerator[list[NewLine], None]:
        """Yield all lines of calls, or only those of the codes found, a few at a time."""
        calls = {row.call_id: row for row in found}
        only = None if whole else {row.row_id for row in found}
        reached: dict[int, int] = {}
        wanted = [list(calls)] if calls else []
        while wanted:
            some = wanted.pop()
            try:
                async with aclosing(self._source.line_pages(some)) as pages:
                    async for lines in pages:
                        # What was read before the source could not go on comes again.
                        new = [x for x in lines if x.ordinal > reached.get(x.key.call_id, 0)]
                        reached |= {line.key.call_id: line.ordinal for line in new}
                        if only is not None:
                            new = [line for line in new if line.key.code_id in only]
                        yield await self._with_records(new)
            except UnreadableRowError:
                if len(some) > 1:
                    middle = len(some) // 2
                    wanted += [some[middle:], some[:middle]]
                else:
                    yield await self._unreadable(calls[some[0]], only)
        if nameless := _nameless(calls, reached):
            yield nameless

    async def lines_by_key(self, keys: Sequence[LineKey]) -> list[NewLine]:
        """Return known lines made anew from the rows that are still there."""
        lines, unreadable = await by_halves(self._source.lines_by_key, list(keys))
        new = await self._with_records(lines)
        for key in unreadable:
            facts = await self._source.about(key.call_id)
            moment = facts and (facts.ended or facts.started)
            new += [invalid(key, 1, moment, UNREADABLE)] if moment else []
        return new

    async def _unreadable(self, call: RowRef, only: Container[int] | None) -> list[NewLine]:
        keys = sorted(await self._source.keys([call.call_id]))
        return [
            invalid(key, number, call.moment, UNREADABLE)
            for number, key in enumerate(keys, 1)
            if only is None or key.code_id in only
        ]

    async def _with_records(self, lines: Sequence[DataLine]) -> list[NewLine]:
        """Make records, and let other tasks run in between: requests in flight are answered."""
        new = []
        for number, line in enumerate(lines, 1):
            new.append(self._options.new_line(line))
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        return new


def _filtered(line: DataLine, setting: str) -> NewLine:
    """Return a line that a filter keeps out, with nothing of its record."""
    return NewLine(
        key=line.key,
        ordinal=line.ordinal,
        lane=lane(line.key, None),
        salesforce_id=None,
        call_ended=line.call_ended,
        state=State.SKIPPED,
        record=None,
        error=KEPT_OUT.format(setting=setting),
        skip_reason=SkipReason.FILTERED,
    )


def _nameless(calls: Mapping[int, RowRef], known: Container[int]) -> list[NewLine]:
    """Return an `invalid` line for each call whose id is not a whole number: it has no rows."""
    return [
        invalid(LineKey(call_id, 0, 0, 0), 1, row.moment, f"StatisticsPartA.ID {NOT_AN_ID}")
        for call_id, row in calls.items()
        if call_id < NON_NUMERIC_ID and call_id not in known
    ]
