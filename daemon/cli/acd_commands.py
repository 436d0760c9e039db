"""`callstatsd acd`: commands that read and create events of the ACD."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo

import orjson
import typer

from daemon.acd.answers import EVENT_STATUSES, EVENT_TYPES, AcdEvent, AcdRefusedError
from daemon.acd.events import AcdEvents, Names
from daemon.acd.new_event import request_body
from daemon.cli import acd_output
from daemon.cli.runtime import read_time, require_settings, require_utf8, run_async
from daemon.errors import ConfigurationError
from daemon.ingest.record import caller_id
from daemon.lines import BIGINT_MAX
from daemon.service.connections import open_acd
from daemon.settings.model import Settings, missing
from daemon.terminal import say
from daemon.web.masking import masked

T = TypeVar("T")

TELEPHONE = {1, 3}
"""Types whose sender and receiver are phone numbers."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with records as they came.")]


def whole_number(value: str | int) -> int:
    """Read an integer from 0 on, or keep a default; raises BadParameter for others."""
    text = str(value)
    if not text.isascii() or not text.isdigit() or (number := int(text[:20])) > BIGINT_MAX:
        raise typer.BadParameter(f"must be a whole number from 0 to {BIGINT_MAX}")
    return number


def _number(said: str, metavar: str = "ID") -> Any:
    return typer.Option(parser=whole_number, metavar=metavar, help=said)


def _text(said: str, metavar: str = "TEXT") -> Any:
    return typer.Option(callback=require_utf8, metavar=metavar, help=said)


def events(
    of_type: Annotated[
        str | None,
        typer.Option("--type", metavar="T", help="Only of this type: a number, or as callback."),
    ] = None,
    status: Annotated[
        str | None,
        typer.Option("--status", metavar="S", help="Only in this status: a number, or as new."),
    ] = None,
    group: Annotated[int | None, _number("Only of this AcdGroupsID.")] = None,
    user_data: Annotated[str | None, _text("Only with exactly this UserData.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="T", help="Only created at T or later.")
    ] = None,
    limit: Annotated[int, _number("Show the last N; 0 shows all.", "N")] = 50,
    as_json: AsJson = False,
) -> None:
    """List events of the ACD, the newest last. The ACD sends all of them each time.

    Example: callstatsd acd events --type callback --status new
    """
    wanted = {
        "type_id": number_of(of_type, EVENT_TYPES, "--type"),
        "status_id": number_of(status, EVENT_STATUSES, "--status"),
        "group_id": group,
        "user_data": user_data,
    }
    settings = _settings()
    start = None if since is None else read_time(since, settings)
    found = _ask(settings, lambda acd: acd.events())
    zone = settings.source_timezone
    chosen = [
        event
        for event in found
        if all(value is None or getattr(event, name) == value for name, value in wanted.items())
        and (start is None or created_since(event, start, zone))
    ]
    chosen.sort(key=lambda event: (event.created or "", event.id or 0))
    shown = chosen[-limit:] if limit else chosen
    if as_json:
        records = [event.record for event in shown]
        _print_json({"events": records, "count": len(shown), "total": len(found)})
    else:
        acd_output.show_events(shown, len(chosen), len(found))


def event(
    number: Annotated[
        int, typer.Argument(parser=whole_number, metavar="ID", help="The AcdEventsID.")
    ],
    as_json: AsJson = False,
) -> None:
    """Show one event of the ACD.

    Example: callstatsd acd event 102039
    """
    found = _ask(_settings(), lambda acd: acd.event(number))
    if as_json:
        _print_json({"event": found.record})
    else:
        acd_output.show_event(found)


def types(as_json: AsJson = False) -> None:
    """List the types of events.

    Example: callstatsd acd types
    """
    _show_names("types", _ask(_settings(), lambda acd: acd.types()), as_json=as_json)


def statuses(as_json: AsJson = False) -> None:
    """List the statuses of events.

    Example: callstatsd acd statuses
    """
    _show_names("statuses", _ask(_settings(), lambda acd: acd.statuses()), as_json=as_json)


def create(
    of_type: Annotated[
        str, typer.Option("--type", metavar="T", help="Type: a number, or a name as callback.")
    ],
    sender: Annotated[str, _text("Who asks: a phone number or an address.")],
    subject: Annotated[str, _text("What agents read first.")],
    group: Annotated[int | None, _number("The group that gets it: AcdGroups.ID.")] = None,
    configuration_group: Annotated[
        int | None, _number("Instead of --group, with --agent-group.")
    ] = None,
    agent_group: Annotated[int | None, _number("Together with that.")] = None,
    user: Annotated[int | None, _number("The one agent who gets it: Users.ID.")] = None,
    receiver: Annotated[str | None, _text("Whom they asked, as a service number.")] = None,
    body: Annotated[str | None, _text("Text of a callback.")] = None,
    crm_url: Annotated[str | None, _text("A page that agents can open.", "URL")] = None,
    user_data: Annotated[str | None, _text("Your own reference, as a ticket number.")] = None,
    priority: Annotated[int | None, _number("Priority; without it 50.", "N")] = None,
    appointment_date: Annotated[str | None, _text("Not before this day.", "yyyy-mm-dd")] = None,
    appointment_time: Annotated[str | None, _text("Not before this time.", "hh:mm")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the request; sends nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create an event for a group; never repeated by itself.

    Example: callstatsd acd create --type callback --group 235 --sender 49301234567 --subject "Call"
    """
    kind = number_of(of_type, EVENT_TYPES, "--type")
    if kind in TELEPHONE:
        sender, receiver = _telephone(sender), caller_id(receiver)
    options = {
        "type": kind,
        "group": group,
        "configuration_group": configuration_group,
        "agent_group": agent_group,
        "user": user,
        "sender": sender,
        "receiver": receiver,
        "subject": subject,
        "body": body,
        "crm_url": crm_url,
        "user_data": user_data,
        "priority": priority,
        "appointment_date": appointment_date,
        "appointment_time": appointment_time,
    }
    try:
        request = request_body(options)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if dry_run:
        _show_request(request, as_json=as_json)
        return
    made = _ask(_settings(), lambda acd: acd.create(request))
    if as_json:
        _print_json({"event": made.record, "updated": made.updated})
        return
    say("Added a comment to an event that was there." if made.updated else "Created an event.")
    acd_output.show_event(made)


def _telephone(sender: str) -> str:
    number = caller_id(sender)
    if number is None:
        raise typer.BadParameter("--sender must be a phone number for this --type")
    return number


COMMANDS: tuple[tuple[str, Callable[..., None]], ...] = (
    ("events", events),
    ("event", event),
    ("types", types),
    ("statuses", statuses),
    ("create", create),
)


def number_of(text: str | None, names: Mapping[int, str], option: str) -> int | None:
    """Read a number or a name; raises BadParameter for others."""
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) <= len(str(BIGINT_MAX)):
        return int(text)
    for number, name in names.items():
        if name.lower() == text.lower():
            return number
    known = ", ".join(name.lower() for name in names.values())
    raise typer.BadParameter(f"{option} must be a number or one of {known}")


def created_since(event: AcdEvent, start: datetime, zone: ZoneInfo) -> bool:
    """Whether an event was created at that time or later, the later reading of its local time."""
    try:
        created = datetime.fromisoformat(event.created or "")
    except ValueError:
        return False
    return created.replace(tzinfo=created.tzinfo or zone, fold=1) >= start


def _settings() -> Settings:
    settings = require_settings(acting=True)
    if not settings.acd_url:
        raise ConfigurationError(missing("acd_url", "this command"))
    return settings


def _ask(settings: Settings, call: Callable[[AcdEvents], Awaitable[T]]) -> T:
    """Return what the ACD answers; its words are masked where it refuses."""

    async def ask() -> T:
        async with open_acd(settings) as acd:
            return await call(acd)

    try:
        return run_async(ask())
    except AcdRefusedError as error:
        raise AcdRefusedError(masked(error.words), error.status) from None


def _show_names(kind: str, names: Names, *, as_json: bool) -> None:
    if as_json:
        rows = [{"ID": number, "ShortText": name} for number, name in names.by_id.items()]
        _print_json({kind: rows, "source": names.source})
    else:
        acd_output.show_names(names)


def _show_request(request: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        _print_json({"request": request})
        return
    say("Nothing was sent. The request would be:")
    acd_output.show_fields(request)


def _print_json(value: dict[str, Any]) -> None:
    typer.echo(orjson.dumps(value))
