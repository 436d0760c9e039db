"""Parses the address of a list of lines, and writes it. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TypeVar
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from daemon.language import _
from daemon.ledger.overview import LineFilter, LineQuery
from daemon.lines import BIGINT_MAX, FeedName, LineKey, State
from daemon.reports.lists import USUAL, command_line, selected_again
from daemon.reports.meanings import requeue_command

LONGEST = 60
"""Characters of a parameter that an error repeats."""
YEARS = range(1970, 3000)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_ACT = re.compile(r"\d{1,19}", re.ASCII)

Choice = TypeVar("Choice", State, FeedName)
Window = tuple[datetime | None, datetime | None]


class ListQueryError(ValueError):
    """A parameter is missing or wrong; the message says what to write, in the current language."""


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A page of the lines of a state, after the line with the key `after`.

    Of one feed, or all; of one day of the ACD's local time, or all: of settled lines that is when
    they were settled, of pending ones when their call ended, or their callback was requested.
    """

    state: State
    feed: FeedName | None = None
    day: date | None = None
    after: LineKey | None = None

    def address(self, after: LineKey | None = None) -> str:
        """Return the address of the list's first page, or of the page after a line."""
        given = {"state": self.state, "feed": self.feed, "day": self.day, "after": after}
        query = urlencode({name: str(value) for name, value in given.items() if value is not None})
        return f"lines?{query}"

    def selection(self, zone: ZoneInfo, limit: int = USUAL) -> LineQuery:
        """Return what to ask the ledger for, and what `callstatsd lines` is asked for."""
        always: Window = (None, None)
        window = always
        if self.day is not None:
            window = (_begin(self.day, zone), _begin(self.day + timedelta(days=1), zone))
        pending = self.state is State.PENDING
        ended, settled = (window, always) if pending else (always, window)
        return LineQuery(self.state, limit, self.feed, *ended, *settled, after=self.after)

    def command(self, zone: ZoneInfo) -> str:
        """Return the command that lists the same on a terminal."""
        return command_line(self.selection(zone), zone)

    def requeue_command(self, zone: ZoneInfo) -> str | None:
        """Return the command that sends the whole list again; None where that is of no use."""
        if requeue_command(self.state) is None:
            return None
        chosen = self.selection(zone)
        lines = LineFilter(
            (self.state,),
            settled_since=chosen.settled_since,
            settled_until=chosen.settled_until,
            feed=self.feed,
        )
        return selected_again(lines, zone)


def read_list_query(parameters: Iterable[tuple[str, str]]) -> ListQuery:
    """Read the parameters of an address; those that are empty count as left out."""
    given = _once(parameters, ("state", "feed", "day", "after"))
    if "state" not in given:
        raise ListQueryError(_("Choose the state whose lines are to be listed."))
    return ListQuery(
        _choice(State, "state", given["state"]),
        _choice(FeedName, "feed", given["feed"]) if "feed" in given else None,
        _day(given["day"]) if "day" in given else None,
        _key(given["after"]) if "after" in given else None,
    )


def read_act_id(parameters: Iterable[tuple[str, str]]) -> int | None:
    """Read the parameters of an address of the list of commands: the id to go on before."""
    text = _once(parameters, ("after",)).get("after")
    if text is None:
        return None
    if not _ACT.fullmatch(text) or int(text) > BIGINT_MAX:
        raise ListQueryError(_("after={text} is not the number of a command.", text=_shown(text)))
    return int(text)


def _begin(day: date, zone: ZoneInfo) -> datetime:
    """Return when a day begins, also where clocks skip midnight on it, or have it twice."""
    return datetime.combine(day, time.min, zone).astimezone(UTC)


def _once(parameters: Iterable[tuple[str, str]], known: tuple[str, ...]) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, text in parameters:
        if name not in known:
            unknown = _(
                "{name} is not a parameter of this list: use {names}.",
                name=_shown(name),
                names=", ".join(known),
            )
            raise ListQueryError(unknown)
        if name in given:
            raise ListQueryError(_("{name} is given twice: give it once.", name=name))
        given[name] = text.strip()
    return {name: text for name, text in given.items() if text}


def _choice(kind: type[Choice], name: str, text: str) -> Choice:
    try:
        return kind(text)
    except ValueError:
        unknown = _(
            "{name}={text} does not exist: use {names}.",
            name=name,
            text=_shown(text),
            names=", ".join(kind),
        )
        raise ListQueryError(unknown) from None


def _day(text: str) -> date:
    try:
        day = date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        day = None
    if day is None or day.year not in YEARS:
        raise ListQueryError(
            _("day={text} is not a day: write it like 2026-11-20.", text=_shown(text))
        )
    return day


def _key(text: str) -> LineKey:
    key = LineKey.parse(text)
    if key is None:
        raise ListQueryError(
            _(
                "after={text} is not the key of a line: use one like 1201-2201-3201-0 or "
                "callback-73001.",
                text=_shown(text),
            )
        )
    return key


def _shown(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
