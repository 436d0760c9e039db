"""The sentences of the pages that list: lines of a state, and operators' commands. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime
from zoneinfo import ZoneInfo

from daemon.language import _, ngettext
from daemon.ledger.acts import RecordedAct, command_line, outcome
from daemon.lines import State
from daemon.reports.formats import local_time
from daemon.web.list_query import ListQuery
from daemon.web.masking import masked


@dataclass(frozen=True, slots=True)
class Operation:
    """A command that an operator ran; `who` is None if people are not named."""

    when: str
    who: str | None
    command: str
    outcome: str


def operation(recorded: RecordedAct, zone: ZoneInfo, *, with_people: bool) -> Operation:
    """Return an operator's command, its reason masked; who ran it only `with_people`."""
    act = recorded.act
    if act.reason is not None:
        act = replace(act, reason=masked(act.reason))
    return Operation(
        local_time(recorded.began_at, zone),
        act.who if with_people else None,
        f"callstatsd {command_line(act, zone)}",
        outcome(recorded),
    )


def heading(state: State | None) -> str:
    """Return the heading of a list of lines."""
    return _("Lines") if state is None else _("Lines: {state}", state=state)


def next_try(when: datetime, zone: ZoneInfo) -> str:
    """Return when a line is tried again, or was to be."""
    return _("next try {time}", time=local_time(when, zone))


def times_sent(attempts: int) -> str:
    """Return how often a line was sent."""
    return ngettext("once", "{count} times", attempts) if attempts else _("never")


def who_is_shown(*, with_people: bool) -> str:
    """Return why the names of those who ran commands are shown, or not."""
    if with_people:
        return _(
            "Who ran them is shown because `CALLSTATSD_LOG_PERSONAL_DATA` is true. Commands are "
            "kept as long as settled lines."
        )
    return _(
        "Who ran them is kept in the ledger, but hidden here: names of people are shown only with "
        "`CALLSTATSD_LOG_PERSONAL_DATA=true`. Commands are kept as long as settled lines."
    )


def order(state: State) -> str:
    """Return how a list of lines is sorted."""
    if state is State.PENDING:
        return _("In the order in which they are sent: live lines before backfill, oldest first.")
    return _("Those settled last come first.")


def day_meaning(state: State | None, zone: ZoneInfo) -> str:
    """Return what the day of a list is, on the ACD's clocks."""
    if state is None:
        return _("Days are those of the time zone {zone}.", zone=zone.key)
    if state is State.PENDING:
        return _(
            "The day is the one on which the call ended, or the callback was requested, in the "
            "time zone {zone}.",
            zone=zone.key,
        )
    return _(
        "The day is the one on which the line was settled, in the time zone {zone}.", zone=zone.key
    )


def left_the_list(query: ListQuery) -> str:
    """Return why a page of a list cannot be shown: the line that it follows is not in it."""
    return _(
        "The line {line} is not {state} any more, so nobody can tell which lines come next: begin "
        "again with the first page.",
        line=query.after,
        state=query.state,
    )
