"""Tables of the ACD's events: phone numbers and mail addresses are masked."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from daemon.acd.answers import EVENT_STATUSES, EVENT_TYPES, AcdEvent
from daemon.acd.events import Names
from daemon.reports.formats import plural
from daemon.terminal import console, say
from daemon.web import masking

ADDRESSES = {"Sender", "Receiver"}
BUILT_IN = "The ACD does not list them; these are built in."


def show_events(events: Iterable[AcdEvent], chosen: int, total: int) -> None:
    """Print events, one to a row."""
    table = _table("ID", "created", "type", "status", "group", "sender", "subject", "user data")
    count = 0
    for count, event in enumerate(events, 1):  # noqa: B007 - used after the loop
        _add(
            table,
            event.id,
            event.created,
            EVENT_TYPES.get(event.type_id or 0, event.type_id),
            _status(event),
            event.group_id,
            address(event.sender or ""),
            masking.masked(event.subject or ""),
            masking.masked(event.user_data or ""),
        )
    if count:
        console().print(table)
    say(f"{count} of {plural(chosen, 'event')} shown; the ACD has {total:,}.")


def show_event(event: AcdEvent) -> None:
    """Print what an event says, one key to a row."""
    show_fields(
        {
            "ID": event.id,
            "type": EVENT_TYPES.get(event.type_id or 0, event.type_id),
            "status": _status(event),
            "AcdGroupsID": event.group_id,
            "UsersID": event.user_id,
            "Sender": event.sender,
            "Receiver": event.receiver,
            "Subject": event.subject,
            "UserData": event.user_data,
            "CrmURL": event.crm_url,
            "EventData": event.event_data,
            "nPriority": event.priority,
            "dtCreated": event.created,
            "dtModified": event.modified,
            "dtLastModified": event.last_modified,
        }
    )


def show_fields(fields: Mapping[str, Any]) -> None:
    """Print keys and values; those that are empty are left out."""
    present = {name: value for name, value in fields.items() if value not in {None, ""}}
    width = max(map(len, present), default=0)
    for name, value in present.items():
        text = str(value)
        if isinstance(value, str) and not name.startswith("dt"):
            text = address(value) if name in ADDRESSES else masking.masked(value)
        say(f"{name:{width}}  {_one_line(text)}", hanging=width + 2)


def show_names(names: Names) -> None:
    """Print types or statuses by ID."""
    table = _table("ID", "name")
    for number, name in names.by_id.items():
        _add(table, number, name)
    console().print(table)
    if names.source == "built_in":
        say(BUILT_IN)


def address(text: str) -> str:
    """Mask a sender or receiver: a number whatever its length, a mail address, or other text."""
    return masking.masked(text) if re.search(r"[^\W\d_]", text) else masking.number(text)


def _status(event: AcdEvent) -> str | int | None:
    return (
        event.status_id
        if event.status_id is None
        else EVENT_STATUSES.get(event.status_id, str(event.status_id))
    )


def _table(*headings: str) -> Table:
    table = Table(*headings, box=None, pad_edge=False)
    table.columns[0].justify = "right"
    return table


def _add(table: Table, *values: object) -> None:
    """Add a row; text of others is neither markup nor control characters."""
    table.add_row(*(Text("" if value is None else _one_line(str(value))) for value in values))


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
