"""A page for people: what the daemon does, the last day, what waits, what failed, one call's story.

Read only, and useful without JavaScript; with it, the live part is brought up to date.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from importlib.resources import files

import jinja2
from aiohttp import web
from markupsafe import Markup, escape

from daemon import __version__
from daemon.command_text import addressed
from daemon.errors import UnreachableError
from daemon.ingest.source import Source
from daemon.ledger.operator import HourlyCounts, LineDetail, OperatorStore, RecentLines
from daemon.ledger.store import Ledger
from daemon.lines import State
from daemon.reports import explain, meanings
from daemon.reports.lookup import look_up, rules_of
from daemon.settings.model import Settings
from daemon.web import chart, wording
from daemon.web.allowed_hosts import AllowedHosts
from daemon.web.cache import CachedQuery, within
from daemon.web.health import HealthEndpoints, InstanceState
from daemon.web.masking import fields, masked
from daemon.web.search import SearchQuery, SearchQueryError, read_search

PATIENCE = 3.0
"""Seconds that a page waits for a database before it is shown without."""
WAITING = 5
"""Waiting lines that are shown."""
FAILURES = 10
"""Calls with failed lines that are shown."""
STREAKS = 3
"""Streaks of a failing endpoint that are shown."""
ACTS = 5
"""Acts of operators that are shown."""
LEAST_LINES = 10
"""Lines of each call that are shown, however many calls."""
LINES_PER_CALL = 20
"""Failed lines to read for each failure shown, as those of one call are told together."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
ASSETS = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "page.svg": "image/svg+xml",
}

Handler = Callable[[web.Request], Awaitable[web.Response]]


def watched(
    settings: Settings,
    source: Source,
    ledger: Ledger,
    condition: InstanceState,
    timeout: float = PATIENCE,
) -> web.Application:
    """Return all that the listener serves: the monitor's routes, and the page."""
    app = HealthEndpoints(source, ledger, condition).app()
    Page(settings, source, ledger, condition, timeout).join(app)
    return app


class Page:
    """Shows the daemon to people; what all of them see is read once, however many look."""

    def __init__(
        self,
        settings: Settings,
        source: Source,
        ledger: Ledger,
        condition: InstanceState,
        timeout: float,
    ) -> None:
        """Take whose state to show, and how long to wait for it; read nothing until asked."""
        self._settings = settings
        self._patience = timeout
        self._source = source
        self._condition = condition
        self._rules = rules_of(settings)
        self._operator_store = OperatorStore(ledger.database)
        self._hosts = AllowedHosts(settings.http_listen)
        self._glance = CachedQuery(self._read_glance, timeout)
        self._tally = CachedQuery(self._read_tally, timeout)
        self._turn = asyncio.Lock()
        self._option = settings.command_option
        self._templates = _templates(self._option)
        self._assets = {name: _text(name) for name in ASSETS}

    def join(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/", self._guarded(self.page))
        app.router.add_get("/live", self._guarded(self.live))
        for name in ASSETS:
            app.router.add_get(f"/{name}", self._guarded(self.asset))
        app.on_cleanup.append(self._close)

    async def page(self, request: web.Request) -> web.Response:
        """Show everything, and the answer to `?q=` if somebody asks."""
        asked = request.query.get("q", "").strip()
        found = await self._answer(asked) if asked else {}
        text = self._render("page.html", await self._state() | found | {"asked": asked[:64]})
        return web.Response(text=text, content_type="text/html")

    async def live(self, _request: web.Request) -> web.Response:
        """Show only what changes by itself."""
        text = self._render("live.html", await self._state())
        return web.Response(text=text, content_type="text/html")

    async def asset(self, request: web.Request) -> web.Response:
        """Serve the style, the script or the icon."""
        name = request.path.rpartition("/")[2]
        return web.Response(text=self._assets[name], content_type=ASSETS[name])

    def _guarded(self, handler: Handler) -> Handler:
        """Refuse names that are not ours: another site's page may point its own name at us."""

        async def guarded(request: web.Request) -> web.Response:
            if self._hosts.ours(request.headers.get("Host", "")):
                response = await handler(request)
            else:
                address = request.get_extra_info("sockname")
                response = web.Response(status=421, text=self._hosts.advice(address))
            response.headers.update(HEADERS)
            return response

        return guarded

    async def _state(self) -> dict[str, object]:
        glance = await self._glance.get()
        tally = await self._tally.get()
        common: dict[str, object] = {
            "away": self._glance.failing,
            "settings": self._settings,
            "version": __version__,
            "chart": None,
            "failures": [],
            "streaks": [],
            "waiting": [],
            "acts": [],
            "counts": None,
        }
        if glance is None:
            nothing = wording.LEDGER_AWAY if self._glance.failing else wording.NOT_READ_YET
            return common | {"view": None, "sayings": [nothing], "headline": nothing.heading}
        view = wording.PageContext(
            glance.now,
            self._settings.source_timezone,
            self._rules.settle_delay,
            self._condition.active,
            self._source.unreachable,
        )
        if tally is not None:
            drawn = chart.chart(tally.settled, chart.first_hour(glance.now, view.zone))
            common |= {"chart": drawn, "counts": tally.waiting.lines}
        sayings = [wording.LEDGER_AWAY]
        if not self._glance.failing:
            counts = tally.waiting.lines if tally and not glance.waiting else None
            sayings = [
                wording.taking(glance.status, view),
                wording.sending(glance.status, view, counts),
            ]
        return common | {
            "view": view,
            "sayings": sayings,
            "headline": wording.headline(sayings[0], sayings[-1]),
            "waiting": glance.waiting,
            "failures": wording.failures(list(glance.failed), FAILURES),
            "streaks": glance.streaks[:STREAKS],
            "more_streaks": len(glance.streaks) > STREAKS,
            "acts": [
                wording.operation(recorded, view, with_people=self._settings.log_personal_data)
                for recorded in glance.acts
            ],
            "standing": glance.status,
        }

    async def _answer(self, asked: str) -> dict[str, object]:
        """Return what is known of the call or record that somebody asks for."""
        try:
            question = read_search(asked)
        except SearchQueryError as error:
            return {"hint": str(error)}
        try:
            found = await within(2 * self._patience, self._inquire(question))
        except UnreachableError:
            found = None
        if found is None:
            return {"hint": "The ledger's database cannot be used now; please try again later."}
        return {"question": question, "found": found}

    async def _inquire(self, question: SearchQuery) -> list[dict[str, object]]:
        async with self._turn:
            found = await look_up(
                self._source,
                self._operator_store,
                question.call_id,
                question.record,
                within=self._patience,
                records=explain.SHOWN,
            )
        with_people = self._settings.log_personal_data
        # As many lines for all the calls of a record as for a call.
        shown = max(explain.SHOWN // max(len(found), 1), LEAST_LINES)
        return [
            {
                "call_id": history.call_id,
                "sentences": explain.sentences(history, self._rules),
                "count": len(history.lines),
                "rest": explain.rest_sentence(len(history.lines), shown),
                "lines": [
                    {
                        "line": line,
                        "sentence": explain.line_sentence(
                            _masked(line, with_people=with_people), self._rules.zone
                        ),
                        "fields": fields(line.record, with_people=with_people)
                        if line.record
                        else [],
                    }
                    for line in history.lines[:shown]
                ],
            }
            for history in found
        ]

    async def _read_glance(self) -> RecentLines:
        glance = await self._operator_store.glance(WAITING, FAILURES * LINES_PER_CALL, ACTS)
        return replace(
            glance,
            waiting=[_masked(line) for line in glance.waiting],
            failed=[_masked(line) for line in glance.failed],
        )

    async def _read_tally(self) -> HourlyCounts:
        glance = await self._glance.get()
        if glance is None or self._glance.failing:
            raise UnreachableError("the ledger could not be read just before")
        return await self._operator_store.tally(chart.first_hour(glance.now, self._rules.zone))

    def _render(self, template: str, values: dict[str, object]) -> str:
        text = self._templates.get_template(template).render(values)
        return addressed(text, str(escape(self._option)))

    async def _close(self, _app: web.Application) -> None:
        self._glance.close()
        self._tally.close()


def code_spans(text: str) -> Markup:
    """Escape a sentence, and set what stands between backticks as code."""
    pieces = [escape(piece) for piece in text.split("`")]
    marked = [
        Markup("<code>{}</code>").format(piece) if index % 2 else piece
        for index, piece in enumerate(pieces)
    ]
    return Markup().join(marked)


def _masked(line: LineDetail, *, with_people: bool = False) -> LineDetail:
    """Leave no phone number and no mail address in what Salesforce said of a line.

    Nor, unless told to, who put it back or withdrew it.
    """
    error = None if line.last_error is None else masked(line.last_error, line.key.ids)
    return replace(line, last_error=error, act_who=line.act_who if with_people else None)


def _templates(option: str) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: _text(f"templates/{name}")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters["code_spans"] = code_spans
    # For a command in pieces, which the whole page's text does not show as one.
    environment.filters["addressed"] = partial(addressed, option=option)
    environment.globals |= {"State": State, "STATES": chart.STATES, "wording": wording}
    environment.globals |= {"meanings": meanings, "explain": explain}
    return environment


def _text(name: str) -> str:
    return files("daemon.web").joinpath(name).read_text(encoding="utf-8")
