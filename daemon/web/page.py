"""The status page: what the daemon does, the last day, what waits and what failed, and a search.

Read only, and complete without JavaScript, which only refreshes the live part.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypedDict

from aiohttp import web

from daemon.errors import UnreachableError, UnusableError
from daemon.ingest.source import Source
from daemon.language import Language, _, of_header
from daemon.ledger.operator import OperatorStore
from daemon.ledger.overview import (
    LATELY,
    AlertStatus,
    Backlog,
    HourlyCounts,
    LedgerStatus,
    LineDetail,
    RecentLines,
)
from daemon.ledger.store import Ledger
from daemon.lines import FeedName, State
from daemon.reports import explain
from daemon.reports.lookup import look_up, rules_of
from daemon.reports.meanings import StatusCard
from daemon.reports.pace import Pace, pace_of
from daemon.reports.telegra import TelegraReport, telegra_report
from daemon.settings.model import Settings
from daemon.web import chart, list_wording, wording
from daemon.web.cache import BoundedReads, CachedQuery, StatusReader
from daemon.web.frame import LEDGER_AWAY, Frame
from daemon.web.health import HealthEndpoints, InstanceState
from daemon.web.lists import Lists
from daemon.web.masking import fields, masked
from daemon.web.rendering import ASSETS, load_assets
from daemon.web.search import SearchQuery, SearchQueryError, read_search

TIMEOUT = 3.0
"""Seconds that the page waits for a database before it is shown without its data."""
WAITING = 5
"""Waiting lines that are shown."""
FAILURES = 10
"""Calls with failed lines that are shown."""
STREAKS = 3
"""Streaks of a failing endpoint that are shown."""
ACTS = 5
"""Commands of operators that are shown."""
LEAST_LINES = 10
"""Lines of each call that are shown, however many calls there are."""
LINES_PER_CALL = 20
"""Failed lines to read for each failure shown, because those of one call are one failure."""


def watched(
    settings: Settings,
    source: Source,
    ledger: Ledger,
    condition: InstanceState,
    reader: StatusReader,
    timeout: float = TIMEOUT,
    choose_language: Callable[[str], Language] = of_header,
) -> web.Application:
    """Return all that the listener serves: the health endpoints, the page and the lists."""
    alerts = settings.alert_group_id is not None
    app = HealthEndpoints(source, ledger, condition, reader, alerts=alerts).app()
    frame = Frame(settings, choose_language)
    operator_store = OperatorStore(ledger.database)
    Page(settings, source, operator_store, condition, reader, frame, timeout).add_routes(app)
    Lists(settings, operator_store, frame, 2 * timeout).add_routes(app)
    return app


@dataclass(frozen=True, slots=True)
class Overview:
    """What the page shows first: the ledger's status and recent lines; and what else is on."""

    status: LedgerStatus
    recent: RecentLines
    callbacks: LedgerStatus | None
    alert: AlertStatus | None
    telegra: TelegraReport | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """What takes longer to count: lines that wait, the last day by hour, and the last minute."""

    waiting: Backlog
    hourly: HourlyCounts
    pace: Pace


class Numbers(TypedDict):
    """What the page counts of a feed."""

    feed: FeedName
    counts: dict[str, int]
    chart: chart.Chart
    pace: Pace


class CallbackRow(TypedDict):
    """What the page says of callbacks; the numbers are None while unknown."""

    card: StatusCard
    numbers: Numbers | None


class Page:
    """Serves the page; what everybody sees is read once, however many visitors there are."""

    def __init__(
        self,
        settings: Settings,
        source: Source,
        operator_store: OperatorStore,
        condition: InstanceState,
        reader: StatusReader,
        frame: Frame,
        timeout: float,
    ) -> None:
        self._settings = settings
        self._timeout = timeout
        self._reader = reader
        self._source = source
        self._condition = condition
        self._rules = rules_of(settings)
        self._operator_store = operator_store
        self._frame = frame
        self._feeds = [FeedName.STATISTICS]
        self._feeds += [FeedName.CALLBACKS] if settings.callback_url else []
        self._overview = CachedQuery(self._read_overview, timeout)
        self._counts = CachedQuery(self._read_counts, timeout)
        self._searches = BoundedReads(2 * timeout)
        self._assets = load_assets()

    def add_routes(self, app: web.Application) -> None:
        """Add the page's routes to an application."""
        self._frame.add_route(app, "/", self.page)
        self._frame.add_route(app, "/live", self.live)
        for name in ASSETS:
            self._frame.add_route(app, f"/{name}", self.asset)
        app.on_cleanup.append(self._close)

    async def page(self, request: web.Request) -> web.Response:
        """Serve the whole page, with the result of the search `?q=` if there is one."""
        query = request.query.get("q", "").strip()
        found = await self._search(query) if query else {}
        values = await self._state() | found | {"query": query[:64]}
        return self._frame.respond("page.html", values)

    async def live(self, _request: web.Request) -> web.Response:
        """Serve only the part that changes."""
        return self._frame.respond("live.html", await self._state())

    async def asset(self, request: web.Request) -> web.Response:
        """Serve the style sheet, the script or the icon."""
        name = request.path.rpartition("/")[2]
        return web.Response(text=self._assets[name], content_type=ASSETS[name])

    async def _state(self) -> dict[str, object]:
        overview = await self._overview.get()
        counts = await self._counts.get() or {}
        calls = counts.get(FeedName.STATISTICS)
        if overview is None:
            away = wording.LEDGER_AWAY if self._overview.failing else wording.NOT_READ_YET
            card = away.translated()
            return {"view": None, "cards": [card], "headline": card.heading}
        recent = overview.recent
        view = wording.PageContext(
            recent.now,
            self._settings.source_timezone,
            self._rules.settle_delay,
            self._condition.active,
            self._source.unreachable,
            timedelta(seconds=self._settings.callback_delay),
        )
        cards = [wording.LEDGER_AWAY.translated()]
        if not self._overview.failing:
            lines = calls.waiting.lines if calls and not recent.waiting else None
            cards = [
                wording.taking(overview.status, view),
                wording.sending(overview.status, view, lines),
            ]
        callbacks = self._callback_row(overview, counts, view)
        return {
            "view": view,
            "away": self._overview.failing,
            "host": overview.status.host if overview.status.active else None,
            "kept": wording.kept(
                [one.waiting.lines for one in counts.values()],
                self._feeds[0] if len(self._feeds) == 1 else None,
                view.zone,
            ),
            "calls": _numbers(FeedName.STATISTICS, calls, view),
            "cards": cards,
            "headline": wording.headline(
                cards[0], cards[-1], callbacks["card"] if callbacks else None
            ),
            "callbacks": callbacks,
            "alert": overview.alert,
            "telegra": wording.receiving(overview.telegra, view) if overview.telegra else None,
            "waiting": recent.waiting,
            "failures": wording.failures(list(recent.failed), FAILURES),
            "streaks": recent.streaks[:STREAKS],
            "more_streaks": len(recent.streaks) > STREAKS,
            "acts": [
                list_wording.operation(
                    recorded, view.zone, with_people=self._settings.log_personal_data
                )
                for recorded in recent.acts
            ],
        }

    def _callback_row(
        self, overview: Overview, counts: Mapping[FeedName, Counts], view: wording.PageContext
    ) -> CallbackRow | None:
        """Return what the page says of callbacks; None while they are off or the ledger is away."""
        if overview.callbacks is None or self._overview.failing:
            return None
        found = counts.get(FeedName.CALLBACKS)
        waits = any(line.key.feed is FeedName.CALLBACKS for line in overview.recent.waiting)
        lines = found.waiting.lines if found and not waits else None
        return {
            "card": wording.callbacks(overview.callbacks, view, lines),
            "numbers": _numbers(FeedName.CALLBACKS, found, view),
        }

    async def _search(self, text: str) -> dict[str, object]:
        """Return what is known about the call or record of a search."""
        try:
            query = read_search(text)
        except SearchQueryError as error:
            return {"hint": str(error)}
        try:
            found = await self._searches.read(partial(self._look_up, query))
        except UnusableError:
            return {"hint": _(LEDGER_AWAY)}
        return {"search": query, "found": found}

    async def _look_up(self, query: SearchQuery) -> list[dict[str, object]]:
        found = await look_up(
            self._settings,
            self._source,
            self._operator_store,
            query.wanted,
            within=self._timeout,
            records=explain.SHOWN,
        )
        with_people = self._settings.log_personal_data
        # All calls of a record together show as many lines as one call.
        shown = max(explain.SHOWN // max(len(found), 1), LEAST_LINES)
        return [
            {
                "subject": history.subject,
                "sentences": explain.sentences(history, self._rules),
                "count": len(history.lines),
                "rest": explain.rest_sentence(len(history.lines), shown),
                "lines": [
                    self._shown(_masked(line, with_people=with_people))
                    for line in history.lines[:shown]
                ],
            }
            for history in found
        ]

    def _shown(self, line: LineDetail) -> dict[str, object]:
        """Return a masked line with what is said of it."""
        people = self._settings.log_personal_data
        return {
            "line": line,
            "sentence": explain.line_sentence(line, self._rules.zone),
            "fields": fields(line.record, with_people=people) if line.record else [],
        }

    async def _read_overview(self) -> Overview:
        recent = await self._operator_store.glance(WAITING, FAILURES * LINES_PER_CALL, ACTS)
        callbacks = None
        if FeedName.CALLBACKS in self._feeds:
            requests = self._operator_store.of(FeedName.CALLBACKS)
            recent = _with_callbacks(recent, await requests.glance(WAITING, FAILURES, 0))
            callbacks = await self._reader.status(feed=FeedName.CALLBACKS)
        recent = replace(
            recent,
            waiting=[_masked(line) for line in recent.waiting],
            failed=[_masked(line) for line in recent.failed],
        )
        alert = await self._reader.alert() if self._settings.alert_group_id is not None else None
        telegra = await telegra_report(
            self._settings, self._source.database, self._operator_store.database
        )
        return Overview(await self._reader.status(), recent, callbacks, alert, telegra)

    async def _read_counts(self) -> dict[FeedName, Counts]:
        overview = await self._overview.get()
        if overview is None or self._overview.failing:
            raise UnreachableError("the ledger could not be read just before")
        first = chart.first_hour(overview.recent.now, self._rules.zone)
        return {feed: await self._count(feed, first) for feed in self._feeds}

    async def _count(self, feed: FeedName, first: datetime) -> Counts:
        store = self._operator_store.of(feed)
        hourly = await store.tally(first)
        waiting = await self._reader.backlog(feed=feed)
        settled, taken = await store.settled_lately()
        minutes = LATELY / timedelta(minutes=1)
        pending = waiting.lines[State.PENDING]
        pace = pace_of(minutes, pending, settled, taken + waiting.taken_lately)
        return Counts(waiting, hourly, pace)

    async def _close(self, _app: web.Application) -> None:
        self._overview.close()
        self._counts.close()


def _numbers(feed: FeedName, counts: Counts | None, view: wording.PageContext) -> Numbers | None:
    """Return what is counted of a feed; None while it is not."""
    if counts is None:
        return None
    first = chart.first_hour(view.now, view.zone)
    return {
        "feed": feed,
        "counts": counts.waiting.lines,
        "chart": chart.chart(counts.hourly.settled, first),
        "pace": counts.pace,
    }


def _with_callbacks(recent: RecentLines, requests: RecentLines) -> RecentLines:
    """Return the lines of both feeds: those that wait longest, and the latest failures."""
    waiting = sorted(
        (*recent.waiting, *requests.waiting), key=lambda line: (line.backfill, line.pending_since)
    )
    return replace(
        recent,
        waiting=waiting[:WAITING],
        failed=sorted(
            (*recent.failed, *requests.failed),
            key=lambda line: line.settled_at or line.taken_at,
            reverse=True,
        ),
        streaks=[*recent.streaks, *requests.streaks],
    )


def _masked(line: LineDetail, *, with_people: bool = False) -> LineDetail:
    """Mask phone numbers and mail addresses in a line's error and answer.

    Without `with_people` also remove who requeued or discarded it.
    """
    error = None if line.last_error is None else masked(line.last_error, line.key.ids)
    answer = None if line.answer is None else masked(line.answer, line.key.ids)
    who = line.act_who if with_people else None
    return replace(line, last_error=error, answer=answer, act_who=who)
