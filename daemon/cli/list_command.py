"""`callstatsd lines`: the lines of a state, page by page, for people and as JSON."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import orjson
import typer

from daemon.cli.line_commands import From, OneFeed, SettledFrom, SettledTo, To, read_window
from daemon.cli.runtime import open_operator_store, require_settings, require_utf8, run_async
from daemon.language import _, mark, of_terminal, use_language
from daemon.ledger.overview import LinePage, LineQuery, ListedLine
from daemon.lines import LineKey, State
from daemon.reports.explain import times_of
from daemon.reports.formats import iso_time, local_time
from daemon.reports.lists import USUAL, command_line
from daemon.reports.lookup import record_lane
from daemon.reports.meanings import error_text
from daemon.settings.model import Settings
from daemon.terminal import say, say_command
from daemon.web.masking import masked

MOST = 1000
"""The most lines that one page may have."""
ORDERS = {
    True: mark("{state} lines, in sending order: live before backfill, oldest first"),
    False: mark("{state} lines, newest first"),
}
"""How pending lines are listed, and how settled ones are."""


def lines(
    state: Annotated[
        State,
        typer.Option(metavar="STATE", help=f"The state: {', '.join(State)}."),
    ],
    feed: OneFeed = None,
    since: From = None,
    until: To = None,
    settled_since: SettledFrom = None,
    settled_until: SettledTo = None,
    salesforce_id: Annotated[
        str | None,
        typer.Option(callback=require_utf8, help="Only lines of this Salesforce record."),
    ] = None,
    limit: Annotated[int, typer.Option(help="Lines to list at once.", min=1, max=MOST)] = USUAL,
    after: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Go on after the line with this key."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the lines of a state.

    Those settled last come first; pending lines in sending order, live before backfill, oldest
    first. Phone numbers are masked.

    Example: callstatsd lines --state rejected --feed statistics --from 2026-11-20
    """
    settings = require_settings()
    if state is State.PENDING and (settled_since or settled_until):
        raise typer.BadParameter("pending lines are not settled: use --from and --to")
    query = LineQuery(
        state,
        limit,
        feed,
        *read_window(settings, (since, until), "--from must be before --to"),
        *read_window(
            settings, (settled_since, settled_until), "--settled-from must be before --settled-to"
        ),
        None if salesforce_id is None else record_lane(salesforce_id),
        None if after is None else _key(after),
    )
    page = run_async(_read(settings, query))
    if page is None:
        raise typer.BadParameter(
            f"the line {after} is not {state} any more: list again without --after"
        )
    if as_json:
        typer.echo(orjson.dumps(lines_json(page)))
    else:
        with use_language(of_terminal()):
            show_lines(page, query, settings.source_timezone)


def lines_json(page: LinePage) -> dict[str, Any]:
    """Return `lines --json`: the lines, and the key to go on after; times are ISO 8601."""
    return {
        "lines": [
            {
                "key": str(line.key),
                "state": line.state.value,
                "call_id": line.key.source_id,
                "feed": line.key.feed.value,
                "salesforce_id": line.salesforce_id,
                "attempts": line.attempts,
                "last_status": line.last_status,
                "last_error": _error(line),
                "taken_at": iso_time(line.taken_at),
                "next_try_at": iso_time(line.next_try_at),
                "settled_at": iso_time(line.settled_at),
            }
            for line in page.lines
        ],
        "next": None if page.after is None else str(page.after),
    }


def show_lines(page: LinePage, query: LineQuery, zone: ZoneInfo) -> None:
    """Print a page as a table, a line of a terminal or more for each line, and how to go on."""
    if not page.lines:
        say(_("No such line is {state}.", state=query.state))
        return
    pending = query.state is State.PENDING
    times = (_("pending since"), _("next try")) if pending else (_("settled"),)
    say(_(ORDERS[pending], state=query.state))
    answer = (_("Salesforce record"), _("sent"), _("answer"), _("reason"))
    rows: list[Sequence[str]] = [(_("key"), *times, *answer)]
    rows += [_row(line, zone) for line in page.lines]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say("  ".join(cells).rstrip(), hanging=4)
    say(times_of(zone))
    if page.after is not None:
        say(_("There are more:"))
        say_command(command_line(replace(query, after=page.after), zone))


def _row(line: ListedLine, zone: ZoneInfo) -> Sequence[str]:
    moments: Sequence[Any] = (line.settled_at,)
    if line.state is State.PENDING:
        moments = (line.pending_since, line.next_try_at)
    return (
        str(line.key),
        *("-" if moment is None else local_time(moment, zone) for moment in moments),
        line.salesforce_id or "-",
        str(line.attempts),
        "-" if line.last_status is None else str(line.last_status),
        error_text(_error(line) or "-"),
    )


def _error(line: ListedLine) -> str | None:
    """Return the last error, which is in Salesforce's words, with phone numbers masked."""
    return None if line.last_error is None else masked(line.last_error, line.key.ids)


def _key(text: str) -> LineKey:
    key = LineKey.parse(text)
    if key is None:
        raise typer.BadParameter(
            f"--after {text!r} is no key of a line: use one like 1201-2201-3201-0 or callback-73001"
        )
    return key


async def _read(settings: Settings, query: LineQuery) -> LinePage | None:
    async with open_operator_store(settings) as operator_store:
        return await operator_store.lines(query)
