"""`callstatsd status`: what the ledger has and what the sender does, once or again and again."""

from typing import Annotated

import orjson
import typer

from daemon.cli import output, watch
from daemon.cli.runtime import require_settings, run_async
from daemon.cli.status_reader import Status, open_status
from daemon.language import of_terminal, use_language
from daemon.settings.model import Settings


def status(
    seconds: Annotated[
        float | None,
        typer.Argument(help="With --watch: from one look to the next; 5 by default.", min=1),
    ] = None,
    again: Annotated[
        bool, typer.Option("--watch", help="Look again and again, with rates, until Ctrl-C.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; with --watch an object on each line.")
    ] = False,
) -> None:
    """Show the lines per state and what the sender does.

    Examples: callstatsd status --json; callstatsd status --watch 10
    """
    if seconds is not None and not again:
        raise typer.BadParameter("SECONDS needs --watch")
    settings = require_settings()
    zone = settings.source_timezone
    with use_language(of_terminal()):
        if again:
            run_async(watch.watch(settings, seconds or watch.EVERY, as_json=as_json))
            return
        found = run_async(_read(settings))
        if as_json:
            typer.echo(orjson.dumps(output.status_json(found.report, zone, found.telegra)))
        else:
            output.show_status(found.report, zone, found.telegra)


async def _read(settings: Settings) -> Status:
    async with open_status(settings) as reader:
        return await reader.read()
