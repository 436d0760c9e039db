"""Tables of the ACD's events: phone numbers and mail addresses are masked."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from daemon.acd.answers import ALERT_PREFIX, EVENT_STATUSES, EVENT_TYPES, AcdEvent
from daemon.acd.events import Names
from daemon.reports.formats import plural
from daemon.terminal import console, say
from daemon.web import masking

IS_ALERT = re.compile(rf"{ALERT_PREFIX}[0-9a-f]{{8}}-[0-9]+")
WIDEST = 1000
"""Columns that no terminal has."""
BUILT_IN = "The ACD does not list them; these are built in."


def show_events(events: Sequence[AcdEvent], chosen: int, total: int) -> None:
    """Print events, one to a row; on a terminal that is too narrow for that each in lines."""
    table = _table("ID", "created", "type", "status", "group", "sender", "subject", "user data")
    for event in events:
        _add(
            table,
            event.id,
            _time(event.created),
            _type(event),
            _status(event),
            event.group_id,
            address(event.sender or ""),
            masking.masked(event.subject or ""),
            user_data(event.user_data or ""),
        )
    shown = console()
    if not events:
        pass
    elif shown.measure(table, options=shown.options.update_width(WIDEST)).maximum <= shown.width:
        shown.print(table)
    else:
        for event in events:
            _say_event(event)
    say(f"{len(events):,} of {plural(chosen, 'event')} shown; the ACD has {total:,}.")


def _say_event(event: AcdEvent) -> None:
    about = {
        "from": address(event.sender or ""),
        "group": event.group_id,
        "user data": user_data(event.user_data or ""),
    }
    details = ", ".join(f"{name} {value}" for name, value in about.items() if value)
    first = (event.id, _time(event.created), _type(event), _status(event))
    say(_one_line("  ".join(str(value) for value in first if value is not None)), hanging=4)
    say(f"  {_one_line(masking.masked(event.subject or ''))} ({_one_line(details)})", hanging=4)


def show_event(event: AcdEvent) -> None:
    """Print what an event says, one key to a row."""
    show_fields(
        {
            "ID": event.id,
            "type": _type(event),
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
            text = MASKS.get(name, masking.masked)(value)
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
    if "@" in text:
        return masking.HIDDEN
    return masking.masked(text) if re.search(r"[^\W\d_]", text) else masking.number(text)


def user_data(text: str) -> str:
    """Mask a foreign number, but not an alert's, in which digits may come together by chance."""
    return text if IS_ALERT.fullmatch(text) else masking.masked(text)


MASKS: Mapping[str, Callable[[str], str]] = {
    "Sender": address,
    "Receiver": address,
    "UserData": user_data,
}


def _time(text: str | None) -> str:
    """Return a time of the ACD to the second, with a blank in it."""
    return re.sub(r"(-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?", r"\1 \2", text or "")


def _type(event: AcdEvent) -> str | int | None:
    return EVENT_TYPES.get(event.type_id or 0, event.type_id)


def _status(event: AcdEvent) -> str | int | None:
    status = event.status_id
    return None if status is None else EVENT_STATUSES.get(status, status)


def _table(*headings: str) -> Table:
    table = Table(*headings, box=None, pad_edge=False)
    table.columns[0].justify = "right"
    return table


def _add(table: Table, *values: object) -> None:
    """Add a row; text of others is neither markup nor control characters."""
    table.add_row(*(Text("" if value is None else _one_line(str(value))) for value in values))


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
