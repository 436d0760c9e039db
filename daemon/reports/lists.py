"""Commands that list what a query selects, or send it again, for people to copy. Pure."""

import shlex
from datetime import datetime
from zoneinfo import ZoneInfo

from daemon.ledger import acts
from daemon.ledger.overview import LineFilter, LineQuery

USUAL = 100
"""Lines of one page of the command, unless it is given another number."""


def command_line(query: LineQuery, zone: ZoneInfo) -> str:
    """Return the command that lists what a query selects; times are local to `zone`."""
    limit = None if query.limit == USUAL else query.limit
    options = {
        "--state": query.state,
        "--feed": query.feed,
        "--from": query.since,
        "--to": query.until,
        "--settled-from": query.settled_since,
        "--settled-to": query.settled_until,
        "--salesforce-id": query.lane,
        "--limit": limit,
        "--after": query.after,
    }
    words = ["callstatsd", "lines"]
    for option, value in options.items():
        if isinstance(value, datetime):
            words += [option, f"{value.astimezone(zone):%Y-%m-%dT%H:%M:%S}"]
        elif value is not None:
            words += [option, str(value)]
    return shlex.join(words)


def selected_again(choice: LineFilter, zone: ZoneInfo) -> str:
    """Return the command that sends what a filter selects again; times are local to `zone`."""
    act = choice.act(acts.ActKind.REQUEUE, who="")
    return f"callstatsd {acts.command_line(act, zone)}"
