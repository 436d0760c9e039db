"""Commands that change lines or stop sending: requeue, discard, pause and resume."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Annotated

import typer

from daemon.cli import operations, output
from daemon.cli.runtime import (
    MAX_ID,
    MIN_ID,
    open_operator_store,
    read_time,
    require_settings,
    require_utf8,
    run_async,
)
from daemon.ingest.feed import Feed
from daemon.ledger.acts import ActKind, operator
from daemon.ledger.operator import OperatorStore
from daemon.ledger.overview import LedgerStatus, LineFilter, SelectedCounts
from daemon.lines import FeedName, State, Subject
from daemon.reports.formats import plural
from daemon.reports.meanings import RESUME
from daemon.service.connections import (
    callback_feed,
    check_ledger,
    open_databases,
    statistics_feed,
)
from daemon.service.signals import stop_on_signals
from daemon.settings.model import Settings
from daemon.terminal import say

States = Annotated[
    list[State],
    typer.Option(
        "--state",
        metavar="STATE",
        help=f"Only lines in this state; may be repeated: {', '.join(State)}.",
    ),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="T", help="Only calls that ended, callbacks requested, at T or later."
    ),
]
To = Annotated[
    str | None,
    typer.Option("--to", metavar="T", help="Only calls that ended, callbacks requested, before T."),
]
SettledFrom = Annotated[
    str | None,
    typer.Option("--settled-from", metavar="T", help="Only lines settled at T or later."),
]
SettledTo = Annotated[
    str | None, typer.Option("--settled-to", metavar="T", help="Only lines settled before T.")
]
CallId = Annotated[
    int | None,
    typer.Option(help="Only lines of this call.", min=MIN_ID, max=MAX_ID),
]
Callback = Annotated[
    int | None,
    typer.Option(help="Only this callback request: its ID in AcdEvents.", min=MIN_ID, max=MAX_ID),
]
OneFeed = Annotated[
    FeedName | None,
    typer.Option("--feed", metavar="FEED", help=f"Only lines of {' or '.join(FeedName)}."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count the lines.")]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes", help=f"Do not ask before changing more than {operations.ASK_ABOVE} lines."
    ),
]


def requeue(
    state: States,
    since: From = None,
    until: To = None,
    settled_since: SettledFrom = None,
    settled_until: SettledTo = None,
    call_id: CallId = None,
    callback: Callback = None,
    feed: OneFeed = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Send settled lines again, as they were sent before.

    Asks before more than 100 lines.

    Example: callstatsd requeue --state rejected --from 2026-11-20 --dry-run
    """
    settings = require_settings(acting=True, writes=not dry_run)
    choice = _filter(
        settings,
        state,
        (since, until),
        (settled_since, settled_until),
        _selected_rows(call_id, callback, feed),
    )
    selected = _show_selected(settings, ActKind.REQUEUE, choice, dry_run=dry_run)
    if dry_run or not selected:
        return
    _confirm(selected, f"Send {plural(selected, 'line')} again?", yes=yes)
    changed = operations.Changed()
    with _report_interruption(
        changed, lambda: f"{plural(changed.requeued, 'line')} are sent again"
    ):
        run_async(_requeue(settings, choice, changed))
    output.show_counts(changed.lines, "now")


def discard(
    state: States,
    since: From = None,
    until: To = None,
    settled_since: SettledFrom = None,
    settled_until: SettledTo = None,
    call_id: CallId = None,
    callback: Callback = None,
    feed: OneFeed = None,
    only_backfill: Annotated[
        bool, typer.Option("--backfill", help="Only lines that a backfill took.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Withdraw lines: they become skipped and are not sent.

    Applies to pending, rejected, expired and invalid lines; asks before more than 100.

    Example: callstatsd discard --state pending --backfill --dry-run
    """
    settings = require_settings(acting=True, writes=not dry_run)
    choice = _filter(
        settings,
        state,
        (since, until),
        (settled_since, settled_until),
        _selected_rows(call_id, callback, feed),
        backfill=only_backfill,
    )
    selected = _show_selected(settings, ActKind.DISCARD, choice, dry_run=dry_run)
    if dry_run or not selected:
        return
    _confirm(selected, f"Discard {plural(selected, 'line')}?", yes=yes)
    changed = operations.Changed()
    with _report_interruption(
        changed, lambda: f"{plural(changed.lines.total(), 'line')} are discarded"
    ):
        run_async(_discard(settings, choice, changed))
    say(f"{plural(changed.lines.total(), 'line')} discarded.")


def pause(
    reason: Annotated[
        str | None,
        typer.Option(callback=require_utf8, help="Reason, shown by status and the page."),
    ] = None,
) -> None:
    """Stop sending until `resume`, also across restarts.

    Example: callstatsd pause --reason "Salesforce release tonight"
    """
    run_async(_pause(require_settings(acting=True, writes=True), reason))
    say(f"Sending is paused. {RESUME}")


def resume() -> None:
    """Continue sending after `pause`.

    If the sender has paused by itself, it tries again at once.
    Waits up to 10 seconds for the result and prints it.

    Example: callstatsd resume
    """
    settings = require_settings(acting=True, writes=True)
    result, callbacks = run_async(_resume(settings))
    say(output.resume_sentence(result, settings.source_timezone))
    if settings.callback_url and (sentence := output.callbacks_pause_sentence(callbacks)):
        say(sentence)


def _show_selected(settings: Settings, kind: ActKind, choice: LineFilter, *, dry_run: bool) -> int:
    """Print how many lines are selected, per state, and return their sum."""
    refused = operations.refusal(kind, choice)
    if refused is not None:
        raise typer.BadParameter(refused)

    async def count() -> SelectedCounts:
        async with open_operator_store(settings) as operator_store:
            return await operator_store.count(choice)

    selected = run_async(count())
    if selected.filtered:
        left_out = operations.filtered_sentence(selected.filtered)
        if not selected.lines:
            raise typer.BadParameter(left_out)
        say(left_out, err=True)
    would = "would be sent again" if kind is ActKind.REQUEUE else "would be discarded"
    output.show_counts(selected.lines, would if dry_run else "selected")
    return sum(selected.lines.values())


def _confirm(selected: int, question: str, *, yes: bool) -> None:
    """Ask before many lines are changed; exit with 1 if the answer is no."""
    if yes or selected <= operations.ASK_ABOVE:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise typer.BadParameter(
            f"{plural(selected, 'line')} are selected and there is no terminal to ask on: add "
            "--yes to change them without a question, or select fewer; nothing was changed"
        )
    if not typer.confirm(question, err=True):
        typer.echo("Nothing was changed.", err=True)
        raise typer.Exit(1)


@contextmanager
def _report_interruption(changed: operations.Changed, done: Callable[[], str]) -> Iterator[None]:
    """Print how many lines were changed if the work was interrupted; then exit with 1."""
    with suppress(asyncio.CancelledError):
        yield
    if not changed.complete:
        typer.echo(
            f"Interrupted: {done()} so far; the same command continues with the rest.", err=True
        )
        raise typer.Exit(1)


async def _requeue(settings: Settings, choice: LineFilter, changed: operations.Changed) -> None:
    with stop_on_signals() as stop:
        async with open_databases(settings) as (source, ledger):
            await check_ledger(settings, source, ledger)
            # Also of a feed that is off: its lines are put back, and sent once it is on.
            feeds: dict[FeedName, Feed] = {
                FeedName.STATISTICS: statistics_feed(settings, source),
                FeedName.CALLBACKS: callback_feed(settings, source),
            }
            operator_store = OperatorStore(ledger.database)
            await operations.requeue(operator_store, feeds, choice, operator(), changed, stop)


async def _discard(settings: Settings, choice: LineFilter, changed: operations.Changed) -> None:
    with stop_on_signals() as stop:
        async with open_operator_store(settings) as operator_store:
            await operations.discard(operator_store, choice, operator(), changed, stop)


async def _pause(settings: Settings, reason: str | None) -> None:
    async with open_operator_store(settings) as operator_store:
        await operations.pause(operator_store, reason, operator())


async def _resume(settings: Settings) -> tuple[operations.AfterResume, LedgerStatus]:
    """Resume; return what came of it for calls, and the status of callbacks."""
    async with open_operator_store(settings) as operator_store:
        result = await operations.resume(operator_store, operator())
        return result, await operator_store.of(FeedName.CALLBACKS).status()


def _filter(
    settings: Settings,
    states: list[State],
    ended: tuple[str | None, str | None],
    settled: tuple[str | None, str | None],
    rows: tuple[FeedName | None, int | None],
    *,
    backfill: bool = False,
) -> LineFilter:
    since, until = read_window(settings, ended, "--from must be before --to")
    settled_since, settled_until = read_window(
        settings, settled, "--settled-from must be before --settled-to"
    )
    feed, row_id = rows
    return LineFilter(
        tuple(states), since, until, row_id, backfill, settled_since, settled_until, feed
    )


def _selected_rows(
    call_id: int | None, callback: int | None, feed: FeedName | None
) -> tuple[FeedName | None, int | None]:
    """Return the feed and the call or event that the options select; None is all."""
    if call_id is not None and callback is not None:
        raise typer.BadParameter("give --call-id or --callback, not both")
    if call_id is not None:
        selected = Subject(FeedName.STATISTICS, call_id)
    elif callback is not None:
        selected = Subject(FeedName.CALLBACKS, callback)
    else:
        return feed, None
    if feed not in {None, selected.feed}:
        option = "--call-id" if callback is None else "--callback"
        raise typer.BadParameter(f"{option} is of the feed {selected.feed}, not of {feed}")
    return selected


def read_window(
    settings: Settings, ends: tuple[str | None, str | None], error: str
) -> tuple[datetime | None, datetime | None]:
    """Read both ends of a window, each of which may be left open."""
    first, last = (read_time(text, settings) if text else None for text in ends)
    if first is not None and last is not None and first >= last:
        raise typer.BadParameter(error)
    return first, last
