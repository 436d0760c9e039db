"""From chosen calls to lines in the ledger: read, make the record once, take what is new."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Container,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from zoneinfo import ZoneInfo

import structlog

from daemon import logs, metrics
from daemon.errors import InvalidLineError, UnreadableRowError
from daemon.ingest.record import call_statistics, lane, to_json
from daemon.ingest.source import RowRef, Source
from daemon.ledger.store import Ledger
from daemon.lines import NON_NUMERIC_ID, NOT_AN_ID, DataLine, LineKey, NewLine, State

_log = structlog.get_logger()

T = TypeVar("T")

AT_ONCE = 10
"""Records to make in one turn of the event loop: about a millisecond."""
UNREADABLE = "one of the call's texts is none in the source's encoding"
NO_ID = "no Salesforce id in the code's or the call's UserData"


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """How records are written: the ACD server's zone, what empty looks like, what is sent."""

    zone: ZoneInfo
    empty_as_string: bool
    send_without_id: bool

    def entry(self, line: DataLine) -> NewLine:
        """Freeze a line's record, or the reason why it has none."""
        try:
            record = call_statistics(line, self.zone)
        except InvalidLineError as error:
            return _invalid(line.key, line.ordinal, line.call_ended, str(error))
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
        )


class Intake:
    """Takes calls into the ledger; the poller and a backfill share it."""

    def __init__(self, source: Source, ledger: Ledger, form: RecordOptions) -> None:
        """Join the two databases' rooms."""
        self._source = source
        self._ledger = ledger
        self._form = form

    async def take(
        self,
        found: Sequence[RowRef],
        *,
        only_codes: Collection[int] | None = None,
        watermark: datetime | None = None,
        never_ended_until: datetime | None = None,
        backfill: bool = False,
    ) -> set[LineKey]:
        """Take the new lines of calls, and move the watermark with them; returns the new keys.

        `only_codes` takes the lines of those transaction codes alone. Of many lines a few are held
        at a time, in transactions of their own; the last moves the watermark.
        """
        new: set[LineKey] = set()
        ready: list[NewLine] = []
        async with aclosing(self.entry_pages(found, only_codes=only_codes)) as pages:
            async for entries in pages:
                if ready:
                    new |= await self.store(ready, backfill=backfill)
                ready = entries
        return new | await self.store(
            ready, watermark=watermark, never_ended_until=never_ended_until, backfill=backfill
        )

    async def entry_pages(
        self, found: Sequence[RowRef], *, only_codes: Collection[int] | None = None
    ) -> AsyncGenerator[list[NewLine], None]:
        """Yield all lines of calls a few at a time, ready to be stored."""
        calls = {row.call_id: row for row in found}
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
                        if only_codes is not None:
                            new = [line for line in new if line.key.code_id in only_codes]
                        yield await self._made(new)
            except UnreadableRowError:
                if len(some) > 1:
                    middle = len(some) // 2
                    wanted += [some[middle:], some[:middle]]
                else:
                    yield await self._unreadable(calls[some[0]], only_codes)
        if nameless := _nameless(calls, reached):
            yield nameless

    async def _unreadable(self, call: RowRef, only_codes: Collection[int] | None) -> list[NewLine]:
        keys = sorted(await self._source.keys([call.call_id]))
        return [
            _invalid(key, number, call.moment, UNREADABLE)
            for number, key in enumerate(keys, 1)
            if only_codes is None or key.code_id in only_codes
        ]

    async def lines_by_key(self, keys: Sequence[LineKey]) -> list[NewLine]:
        """Return known lines made anew from the rows that are still there."""
        lines, unreadable = await _apart(self._source.lines_by_key, list(keys))
        entries = await self._made(lines)
        for key in unreadable:
            facts = await self._source.about(key.call_id)
            moment = facts and (facts.ended or facts.started)
            entries += [_invalid(key, 1, moment, UNREADABLE)] if moment else []
        return entries

    async def _made(self, lines: Sequence[DataLine]) -> list[NewLine]:
        """Make records, leaving others their turn in between: requests in flight are answered."""
        entries = []
        for number, line in enumerate(lines, 1):
            entries.append(self._form.entry(line))
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        return entries

    async def look_for_ids(self, since: datetime, floor: datetime) -> set[LineKey]:
        """Take up skipped lines that have a Salesforce id by now.

        Those of calls that ended since then, or taken since then of calls from after the floor.
        """
        identified: set[LineKey] = set()
        async for keys in self._ledger.without_id(since, floor, NO_ID):
            entries = [
                entry
                for entry in await self.lines_by_key(keys)
                if entry.salesforce_id is not None
                or (entry.state is State.INVALID and entry.error != UNREADABLE)
            ]
            if entries:
                found = await self._ledger.identify(entries, NO_ID)
                _tell_of(entries, found)
                identified |= found
        return identified

    async def store(
        self,
        entries: Sequence[NewLine],
        *,
        watermark: datetime | None = None,
        never_ended_until: datetime | None = None,
        backfill: bool = False,
        act: int | None = None,
    ) -> set[LineKey]:
        """Store lines that are new, and move the watermarks with them; returns the new keys.

        `act` is the backfill that takes them.
        """
        new = await self._ledger.take(
            entries,
            watermark=watermark,
            never_ended_until=never_ended_until,
            backfill=backfill,
            act=act,
        )
        _tell_of(entries, new)
        return new


async def _apart(
    read: Callable[[Sequence[T]], Awaitable[list[DataLine]]], wanted: list[T]
) -> tuple[list[DataLine], list[T]]:
    """Read lines, and find out by halves which of those wanted the source cannot give."""
    try:
        return await read(wanted), []
    except UnreadableRowError:
        if len(wanted) == 1:
            return [], wanted
        middle = len(wanted) // 2
        first, bad = await _apart(read, wanted[:middle])
        second, worse = await _apart(read, wanted[middle:])
        return first + second, bad + worse


def _nameless(calls: Mapping[int, RowRef], known: Container[int]) -> list[NewLine]:
    """Keep a trace of calls whose own id is no whole number, so that no row can be asked for."""
    return [
        _invalid(LineKey(call_id, 0, 0, 0), 1, row.moment, f"StatisticsPartA.ID {NOT_AN_ID}")
        for call_id, row in calls.items()
        if call_id < NON_NUMERIC_ID and call_id not in known
    ]


def _invalid(key: LineKey, ordinal: int, call_ended: datetime, error: str) -> NewLine:
    return NewLine(
        key=key,
        ordinal=ordinal,
        lane=lane(key, None),
        salesforce_id=None,
        call_ended=call_ended,
        state=State.INVALID,
        record=None,
        error=error,
    )


def _tell_of(entries: Sequence[NewLine], new: Collection[LineKey]) -> None:
    for entry in entries:
        if entry.state is not State.PENDING and entry.key in new:
            metrics.count_line(entry.state)
            _tell(entry)


def _tell(entry: NewLine) -> None:
    tell = _log.debug if entry.state is State.SKIPPED else _log.warning
    tell(
        logs.LINE_EVENTS[entry.state],
        key=str(entry.key),
        call_id=entry.key.call_id,
        salesforce_id=entry.salesforce_id,
        status=None,
        attempt=0,
        seconds=None,
        error=entry.error,
    )
