"""`callstatsd show`: what happened to a call, a callback or a Salesforce record."""

from typing import Annotated

import orjson
import typer

from daemon.cli import output
from daemon.cli.runtime import MAX_ID, MIN_ID, require_settings, require_utf8, run_async
from daemon.command_text import printable
from daemon.errors import ConfigurationError
from daemon.language import ENGLISH, _, of_terminal, use_language
from daemon.ledger.operator import OperatorStore
from daemon.lines import FeedName, Subject
from daemon.reports import explain
from daemon.reports.lookup import look_up, rules_of
from daemon.service.connections import check_ledger, open_databases
from daemon.settings.model import Settings
from daemon.telegra.reading import TelegraReader
from daemon.telegra.tables import missing_tables, missing_tables_sentence
from daemon.terminal import say


def show(
    call_id: Annotated[
        int | None,
        typer.Argument(
            metavar="CALL_ID", help="The ID in StatisticsPartA.", min=MIN_ID, max=MAX_ID
        ),
    ] = None,
    callback: Annotated[
        int | None,
        typer.Option(
            help="Show this callback request: its ID in AcdEvents.", min=MIN_ID, max=MAX_ID
        ),
    ] = None,
    salesforce_id: Annotated[
        str | None,
        typer.Option(
            callback=require_utf8,
            help="Show the latest calls and callbacks of this Salesforce record, newest first.",
        ),
    ] = None,
    telegra: Annotated[
        str | None,
        typer.Option(
            metavar="TASKID",
            callback=require_utf8,
            help="Show the newest call that a Telegra ACD calls so.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Print each field of a record on its own line.")
    ] = False,
) -> None:
    """Show what happened to a call or callback and what is next.

    Examples: callstatsd show 1201; callstatsd show --callback 73001
    """
    wanted = _wanted(call_id, callback, salesforce_id)
    if len(wanted) + (telegra is not None) != 1:
        raise typer.BadParameter("give a CALL_ID, --callback, --salesforce-id or --telegra")
    settings = require_settings()
    rules = rules_of(settings)
    if telegra is not None:
        call = run_async(_call_of_task(settings, telegra))
        if call is None:
            _show_no_call(telegra, as_json=as_json)
            return
        wanted.append(Subject(FeedName.STATISTICS, call))
    found = run_async(_look_up(settings, wanted[0]))
    if as_json:
        shown = [explain.as_json(history, rules) for history in found]
        for one in shown:
            one["note"] = printable(one["note"])
        typer.echo(orjson.dumps(shown if salesforce_id is not None else shown[0]))
        return
    with use_language(of_terminal()):
        for history in found:
            output.show_history(history, rules, verbose=verbose)
        if not found:
            say(_("The ledger has no line for the Salesforce record {id}.", id=salesforce_id))


def _wanted(
    call_id: int | None, callback: int | None, salesforce_id: str | None
) -> list[Subject | str]:
    wanted: list[Subject | str] = []
    wanted += [] if call_id is None else [Subject(FeedName.STATISTICS, call_id)]
    wanted += [] if callback is None else [Subject(FeedName.CALLBACKS, callback)]
    wanted += [] if salesforce_id is None else [salesforce_id]
    return wanted


async def _look_up(settings: Settings, wanted: Subject | str) -> list[explain.History]:
    async with open_databases(settings) as (source, ledger):
        await check_ledger(settings, source, ledger)
        return await look_up(settings, source, OperatorStore(ledger.database), wanted)


def _show_no_call(taskid: str, *, as_json: bool) -> None:
    with use_language(ENGLISH if as_json else of_terminal()):
        note = _(
            "No call of the taskid {taskid} was told of, or it is gone with its rows.",
            taskid=taskid,
        )
    nothing: dict[str, object] = {"call_id": None, "lines": [], "note": printable(note)}
    typer.echo(orjson.dumps(nothing)) if as_json else say(note)


async def _call_of_task(settings: Settings, task_id: str) -> int | None:
    async with open_databases(settings) as (source, ledger):
        await check_ledger(settings, source, ledger)
        if missing := await missing_tables(source.database):
            raise ConfigurationError(missing_tables_sentence(missing))
        return await TelegraReader(source.database).call_of_task(task_id)
