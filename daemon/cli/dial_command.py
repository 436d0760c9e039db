"""`callstatsd click-to-dial`: asks once whether an agent's call may be placed."""

from typing import Annotated, Any

import orjson
import typer

from daemon.cli.runtime import require_settings, require_utf8, run_async
from daemon.errors import ConfigurationError
from daemon.ingest.source import open_source
from daemon.salesforce.click_to_dial import Question
from daemon.service.click_to_dial import open_dialler
from daemon.service.connections import open_tokens
from daemon.settings.model import Settings
from daemon.terminal import say
from daemon.web.api import BadQuestionError, question_of
from daemon.web.dialling import Dial

EXIT_CODES = {"allowed": 0, "refused": 1, "undecided": 69}


def click_to_dial(
    salesforce_id: Annotated[
        str,
        typer.Argument(
            metavar="SALESFORCE_ID", callback=require_utf8, help="The record that is to be called."
        ),
    ],
    number: Annotated[
        str,
        typer.Argument(metavar="NUMBER", callback=require_utf8, help="The number to be called."),
    ],
    agent: Annotated[
        str, typer.Option(metavar="UID", callback=require_utf8, help="UID of the agent who calls.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask Salesforce whether an agent may place a call.

    Exits with 0 if the call is allowed, 1 if it is refused, 69 if Salesforce cannot be asked.

    Example: callstatsd click-to-dial 0035g00000LnZXkAAN "+49 221 2601" --agent agent.y
    """
    try:
        question = question_of(salesforce_id, number, agent)
    except BadQuestionError as fault:
        raise typer.BadParameter(str(fault)) from None
    settings = require_settings(to_send=True)
    if not settings.click_to_dial_url:
        raise ConfigurationError(
            "Click to dial is off: set CALLSTATSD_CLICK_TO_DIAL_URL, usually to "
            "/services/apexrest/jtelACD/onClickToDial."
        )
    dial = run_async(_dial(settings, question))
    if as_json:
        typer.echo(orjson.dumps(dial_json(dial)))
    else:
        say(sentence(dial))
    raise typer.Exit(EXIT_CODES[dial.decision])


async def _dial(settings: Settings, question: Question) -> Dial:
    async with (
        open_source(
            settings.source_dsn.get_secret_value(),
            settings.source_schemas,
            settings.source_timezone,
            settings.clients_id,
        ) as source,
        open_tokens(settings) as (session, tokens),
        open_dialler(settings, source, session, tokens) as dialler,
    ):
        return await dialler.dial(question)


def dial_json(dial: Dial) -> dict[str, Any]:
    """Return what became of a question, for programs."""
    service = dial.service
    return {
        "decision": dial.decision,
        "status": dial.status,
        "ServiceNumber": service.number if service else None,
        "ServiceNumberName": service.name if service else None,
        "ServiceNumbersID": service.row_id if service else None,
        "Source": service.source if service else None,
        "reason": dial.reason,
        "message": dial.message,
        "seconds": round(dial.seconds, 2),
    }


def sentence(dial: Dial) -> str:
    """Return what became of a question, for people."""
    if dial.service is None:
        if dial.decision == "refused":
            return f"Refused ({dial.status}): {dial.message}"
        answered = f" ({dial.status})" if dial.status is not None else ""
        return f"Undecided{answered}. {dial.message}"
    parts = (dial.service.number, dial.service.name)
    shown = ", ".join(part for part in parts if part)
    if dial.service.row_id is None:
        shown += "; ServiceNumbers has no such row, or cannot be read"
    if dial.reason is not None:
        why = (dial.message or "").partition(":")[0].rstrip(".")
        return f"Allowed by the fallback, with {shown}. {why}."
    return f"Allowed, with {shown}."
