"""The pages that list: the lines of a state, and what operators did. Read only."""

from dataclasses import replace
from functools import partial

from aiohttp import web

from daemon.errors import UnusableError
from daemon.language import _
from daemon.ledger.operator import OperatorStore
from daemon.ledger.overview import LinePage, ListedLine
from daemon.lines import FeedName
from daemon.settings.model import Settings
from daemon.web import list_wording
from daemon.web.cache import BoundedReads
from daemon.web.frame import LEDGER_AWAY, Frame
from daemon.web.list_query import ListQuery, ListQueryError, read_act_id, read_list_query
from daemon.web.masking import masked

PAGE = 50
"""Lines, or commands, of one page."""


class Lists:
    """Serves the lists; each page is read when somebody asks for it."""

    def __init__(
        self, settings: Settings, operator_store: OperatorStore, frame: Frame, timeout: float
    ) -> None:
        self._zone = settings.source_timezone
        self._with_people = settings.log_personal_data
        self._operator_store = operator_store
        self._frame = frame
        self._reads = BoundedReads(timeout)

    def add_routes(self, app: web.Application) -> None:
        """Add the routes of the lists to an application."""
        self._frame.add_route(app, "/lines", self.lines)
        self._frame.add_route(app, "/acts", self.acts)

    async def lines(self, request: web.Request) -> web.Response:
        """Serve a page of the lines of a state."""
        try:
            query = read_list_query(request.query.items())
        except ListQueryError as error:
            return self._lines(None, fault=str(error), status=400)
        selection = query.selection(self._zone, PAGE)
        try:
            found = await self._reads.read(partial(self._operator_store.lines, selection))
        except UnusableError:
            return self._lines(query, fault=_(LEDGER_AWAY), status=503)
        if found is None:
            return self._lines(query, fault=list_wording.left_the_list(query), status=400)
        return self._lines(query, found)

    async def acts(self, request: web.Request) -> web.Response:
        """Serve a page of what operators did, newest first."""
        try:
            before = read_act_id(request.query.items())
        except ListQueryError as error:
            return self._frame.respond("acts.html", {"fault": str(error)}, 400)
        latest = partial(self._operator_store.latest_acts, PAGE + 1, before)
        try:
            found = await self._reads.read(latest)
        except UnusableError:
            return self._frame.respond("acts.html", {"fault": _(LEDGER_AWAY)}, 503)
        acts = [
            list_wording.operation(recorded, self._zone, with_people=self._with_people)
            for recorded in found[:PAGE]
        ]
        values = {
            "acts": acts,
            "later": before is not None,
            "next": found[PAGE - 1].id if len(found) > PAGE else None,
        }
        return self._frame.respond("acts.html", values)

    def _lines(
        self,
        query: ListQuery | None,
        found: LinePage | None = None,
        fault: str | None = None,
        status: int = 200,
    ) -> web.Response:
        values: dict[str, object] = {
            "list": query,
            "feeds": list(FeedName),
            "zone": self._zone,
            "fault": fault,
            "lines": [],
            "next": None,
        }
        if found is not None:
            values |= {
                "lines": [_masked(line) for line in found.lines],
                "next": found.after,
            }
        return self._frame.respond("lines.html", values, status)


def _masked(line: ListedLine) -> ListedLine:
    """Mask phone numbers and mail addresses in a line's error."""
    if line.last_error is None:
        return line
    return replace(line, last_error=masked(line.last_error, line.key.ids))
