"""The feed of callback requests: events of type 3 in AcdEvents, each one line with its record."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar
from zoneinfo import ZoneInfo

from daemon.database import statements
from daemon.errors import InvalidLineError
from daemon.ingest.callback_record import (
    CallbackRequest,
    callback,
    names_by_number,
    needs_name,
    to_json,
)
from daemon.ingest.columns import to_bigint
from daemon.ingest.event_body import MAX_OCTETS
from daemon.ingest.feed import Due, Page, RowRef, invalid
from daemon.ingest.reader import SourceReader, by_halves
from daemon.ingest.readiness import Clock, EventFacts, ReadinessRules, Window
from daemon.ingest.record import lane
from daemon.ingest.schema import CALLBACK_TABLES
from daemon.lines import (
    NON_NUMERIC_ID,
    NOT_AN_ID,
    Covered,
    Digest,
    FeedName,
    LineKey,
    NewLine,
    State,
)

LARGE = 64 * 1024
"""Characters of EventData from which it is parsed in a thread: it may take a second."""
END_WITHIN = timedelta(minutes=30)
"""For how long after it was created a request waits for the end of its call."""
AT_ONCE = 50
"""Requests to hold at once: each may have a megabyte of EventData."""
UNREADABLE = "a text of the request is not valid in the encoding of the source's database"
"""What is wrong with a line whose rows the server cannot give."""


class CallbackSource(SourceReader):
    """Reads callback requests."""

    tables = CALLBACK_TABLES
    sql = statements.load("ingest/callbacks.sql")
    id_texts: ClassVar = {
        "event_user_data": "event.UserData::text",
        "call_user_data": "call.UserData::text",
    }
    text_statement = "requests"

    async def ready(self, window: Window, ended_by: datetime) -> AsyncIterator[Page]:
        """Yield pages of the requests created in the window that wait for no call's end.

        None created up to `ended_by` waits any more.
        """
        async for page in self._pages("ready", window, ended_by):
            yield page

    async def requests(self, event_ids: Sequence[int]) -> list[CallbackRequest]:
        """Return the requests that are there; raises `UnreadableRowError`.

        A master view that shows an id twice would repeat a request; the first is kept.
        """
        rows = await self._fetch("requests", event_ids, MAX_OCTETS)
        found: dict[int, CallbackRequest] = {}
        for row in rows:
            found.setdefault(row["event_id"], CallbackRequest(*row))
        return list(found.values())

    async def about(self, event_id: int) -> EventFacts | None:
        """Return what is known of an event, whichever client's or type; None for an unknown id."""
        rows = await self._fetch("about", event_id)
        return EventFacts(*rows[0]) if rows else None

    async def created(self, event_ids: Sequence[int]) -> dict[int, datetime]:
        """Return when the requests were created that are there."""
        return dict(await self._fetch("created", event_ids))

    async def service_names(self) -> dict[str, str | None]:
        """Return the names of all service numbers by their digits."""
        return names_by_number(await self._fetch("service_numbers"))

    async def digest(self, event_ids: Sequence[int]) -> Digest:
        """Return the digest of the requests' keys, as the ledger has it."""
        (row,) = await self._fetch("digest", event_ids)
        return Digest(*row)


@dataclass(frozen=True, slots=True)
class CallbackOptions:
    """How records are written: the ACD server's zone, and what empty looks like."""

    zone: ZoneInfo
    empty_as_string: bool

    def new_line(self, request: CallbackRequest, names: Mapping[str, str | None]) -> NewLine:
        """Freeze a request's record, or the reason why it has none."""
        key = LineKey.of_callback(to_bigint(request.event_id))
        try:
            record = callback(request, names, self.zone)
        except InvalidLineError as error:
            return invalid(key, 1, request.created, str(error))
        return NewLine(
            key=key,
            ordinal=1,
            lane=lane(key, record.SalesforceId),
            salesforce_id=record.SalesforceId,
            call_ended=request.created,
            state=State.PENDING,
            record=to_json(record, self.empty_as_string).decode(),
        )


class CallbackFeed:
    """Requests by when they were created; one whose call still runs is left to the sweeps.

    `rules` have the delay as `settle_delay`, and `stale_call_after` is `END_WITHIN`.
    """

    name = FeedName.CALLBACKS

    def __init__(
        self, source: CallbackSource, rules: ReadinessRules, options: CallbackOptions
    ) -> None:
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
        """Yield requests whose delay has passed."""
        window = self.rules.poll(covered, floor, clock).ended
        limit = Covered(self.rules.visible_until(clock), None)
        async for page in self._source.ready(window, self.rules.started_by(clock)):
            yield Due(page, limit._replace(watermark=min(page.covered, limit.watermark)))
        yield Due(Page([], limit.watermark), limit)

    async def late(
        self, window: Window, floor: datetime, clock: Clock, *, wide: bool
    ) -> AsyncGenerator[Page, None]:
        """Yield all requests of the window that are ready by now."""
        _ = wide
        from_floor = Window(max(window.since, floor), window.until)
        async for page in self._source.ready(from_floor, self.rules.started_by(clock)):
            if page.found:
                yield page

    async def ready_in(self, window: Window) -> AsyncGenerator[Page, None]:
        """Yield the requests created in the window."""
        ended_by = self.rules.started_by(await self.clock())
        async for page in self._source.ready(window, ended_by):
            yield page

    async def count(self, window: Window) -> int:
        """Return how many requests were created in the window."""
        return sum([len(page.found) async for page in self.ready_in(window)])

    async def keys(self, call_ids: Sequence[int]) -> list[LineKey]:
        """Return the keys of events that a window chose: each has one line."""
        return [LineKey.of_callback(event_id) for event_id in call_ids]

    async def digest(self, call_ids: Sequence[int]) -> Digest:
        """Return what these keys come to."""
        return await self._source.digest(call_ids)

    async def new_lines(
        self, found: Sequence[RowRef], *, whole: bool = True
    ) -> AsyncGenerator[list[NewLine], None]:
        """Yield the lines of requests, a few at a time; `whole` makes no difference."""
        _ = whole
        moments = {row.call_id: row.moment for row in found}
        numbers = [event_id for event_id in moments if event_id >= NON_NUMERIC_ID]
        names: Mapping[str, str | None] | None = None
        for start in range(0, len(numbers), AT_ONCE):
            requests, unreadable = await by_halves(
                self._source.requests, numbers[start : start + AT_ONCE]
            )
            if names is None and any(map(needs_name, requests)):
                names = await self._source.service_names()
            lines = await self._with_records(requests, names or {})
            lines += [_invalid(event_id, moments[event_id], UNREADABLE) for event_id in unreadable]
            yield lines
        if len(numbers) < len(moments):
            yield [
                _invalid(event_id, moment, f"AcdEvents.ID {NOT_AN_ID}")
                for event_id, moment in moments.items()
                if event_id < NON_NUMERIC_ID
            ]

    async def lines_by_key(self, keys: Sequence[LineKey]) -> list[NewLine]:
        """Return known lines made anew from the rows that are still there."""
        lines: list[NewLine] = []
        event_ids = sorted({key.source_id for key in keys})
        for start in range(0, len(event_ids), AT_ONCE):
            some = event_ids[start : start + AT_ONCE]
            requests, unreadable = await by_halves(self._source.requests, some)
            names = await self._source.service_names() if any(map(needs_name, requests)) else {}
            lines += await self._with_records(requests, names)
            moments = await self._source.created(unreadable) if unreadable else {}
            lines += [_invalid(*event, UNREADABLE) for event in moments.items()]
        return lines

    async def _with_records(
        self, requests: Sequence[CallbackRequest], names: Mapping[str, str | None]
    ) -> list[NewLine]:
        """Make records, and let other tasks run in between: EventData may take a while."""
        lines = []
        for request in requests:
            if len(request.event_data or "") > LARGE:
                lines.append(await asyncio.to_thread(self._options.new_line, request, names))
            else:
                lines.append(self._options.new_line(request, names))
                await asyncio.sleep(0)
        return lines


def _invalid(event_id: int, created: datetime, error: str) -> NewLine:
    return invalid(LineKey.of_callback(event_id), 1, created, error)
