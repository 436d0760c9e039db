"""What a notification says, whether it is kept, and what it is the repetition of. Pure."""

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from zoneinfo import ZoneInfo

import orjson

from daemon.telegra.parameters import BadNotificationError, Parameters
from daemon.telegra.values import integer, moment, named_moment, record_id_in, whole

TASK_ID_DIGITS = 24
"""The most hexadecimal digits of a taskid."""


class Command(StrEnum):
    """The values of `cmd` that the ACD's documentation has."""

    AGENTSTATE = "agentstate"
    CALLEVENT = "callevent"
    RECORDEDCALL = "recordedcall"
    CLASSIFICATIONEVENT = "classificationevent"
    ENQUEUECALL = "enqueuecall"
    SCHEDULECALLEVENT = "schedulecallevent"
    CONFIGCHANGED = "configchanged"
    BROADCASTEVENT = "broadcastevent"


OTHER = "other"
"""How an unknown `cmd` is counted."""
NEEDED = {
    Command.CALLEVENT: ("taskid", "eventtype"),
    Command.CLASSIFICATIONEVENT: ("callid", "classificationreason"),
    Command.SCHEDULECALLEVENT: ("scheduleid", "callednumber"),
}
"""Parameters without which a notification is bad."""
NAMED = {"group": "groupid", "hotline": "hotlineid", "mandator": "mandatorid"}
"""Names that agentstate gives, and of which id."""


class Received(NamedTuple):
    """A notification to keep, as it was understood when it came.

    `task_id` is the call's, in lower case; `code_keys` are those that a classification may mean,
    the better one first. `at` is its own time, `named` what it says itself, None where it says
    nothing readable.
    """

    command: Command
    customer: int
    task_id: str | None
    code_keys: tuple[str, ...]
    fingerprint: bytes
    parameters: Parameters
    at: datetime
    named: datetime | None


class Notification(NamedTuple):
    """A notification that was kept; `row_id` is its TelegraEvents.ID."""

    row_id: int
    command: str
    at: datetime
    parameters: Parameters

    @property
    def order(self) -> tuple[datetime, int, int]:
        """By time, then by the ACD's own number, then as they were received."""
        number = integer(self.parameters.get("id"))
        return (self.at, -1 if number is None else number, self.row_id)


def command_of(parameters: Parameters) -> str:
    """Return how a notification is counted: one of the eight commands, or `other`."""
    written = parameters.get("cmd", "").strip().lower()
    return written if written in set(Command) else OTHER


def understood(parameters: Parameters, received: datetime, zone: ZoneInfo) -> Received | None:
    """Return a notification to keep; None where it tells nothing that is needed.

    Raises `BadNotificationError`. `zone` is the ACD's, for times without an offset.
    """
    if not parameters.get("cmd", "").strip():
        raise BadNotificationError("no cmd")
    command = command_of(parameters)
    if command not in {*NEEDED, Command.AGENTSTATE}:
        return None
    kind = Command(command)
    for name in NEEDED.get(kind, ()):
        if not parameters.get(name, "").strip():
            raise BadNotificationError(f"no {name}")
    if kind is Command.AGENTSTATE and not has_news(parameters):
        return None
    named = _named(kind, parameters, received, zone)
    return Received(
        kind,
        customer_in(parameters),
        _task_id(kind, parameters),
        code_keys(parameters["callid"]) if kind is Command.CLASSIFICATIONEVENT else (),
        fingerprint(kind, parameters),
        parameters,
        moment(named, received),
        named,
    )


def customer_in(parameters: Parameters) -> int:
    """Return the ACD's customer; 0 where none is told."""
    return whole(parameters.get("customernumber")) or 0


def has_news(agent_state: Parameters) -> bool:
    """Whether an agentstate names something, or has the Salesforce id of a call."""
    return bool(names_in(agent_state)) or (
        _is_task_id(agent_state.get("taskid", ""))
        and record_id_in(agent_state.get("requesttext")) is not None
    )


def names_in(agent_state: Parameters) -> dict[tuple[str, int], str]:
    """Return the names that an agentstate gives, by kind and id."""
    return {
        (kind, row_id): name
        for kind, parameter in NAMED.items()
        if (name := agent_state.get(kind, "").strip())
        and (row_id := whole(agent_state.get(parameter))) is not None
    }


def task_key(task_id: str) -> str:
    """Return a taskid without case and leading zeros, as classifications may have it."""
    return task_id.lower().lstrip("0") or "0"


def code_keys(call_id: str) -> tuple[str, ...]:
    """Return the keys of the calls that a classification's callid may mean, the better first."""
    written = call_id.strip()
    keys = [task_key(written)] if _is_task_id(written) else []
    if written.isascii() and written.isdecimal() and len(written) <= len(str(16**TASK_ID_DIGITS)):
        keys.append(f"{int(written):x}")
    return tuple(dict.fromkeys(keys))


def fingerprint(command: Command, parameters: Parameters) -> bytes:
    """Return what two notifications share if one of them is a repetition."""
    event_id, schedule_id = parameters.get("id", "").strip(), parameters.get("scheduleid", "")
    if command is Command.CALLEVENT and event_id:
        parts: list[object] = [command, customer_in(parameters), _canonical(event_id)]
    elif command is Command.SCHEDULECALLEVENT:
        parts = [command, _canonical(schedule_id.strip())]
    else:
        parts = [command, sorted(parameters.items())]
    return hashlib.blake2b(orjson.dumps(parts), digest_size=16).digest()


def _canonical(written: str) -> str:
    number = integer(written)
    return written if number is None else str(number)


def _is_task_id(written: str) -> bool:
    digits = written.strip()
    return 0 < len(digits) <= TASK_ID_DIGITS and set(digits.lower()) <= set("0123456789abcdef")


def _task_id(command: Command, parameters: Parameters) -> str | None:
    if command not in {Command.CALLEVENT, Command.AGENTSTATE}:
        return None
    task_id = parameters.get("taskid", "").strip()
    if _is_task_id(task_id):
        return task_id.lower()
    if command is Command.CALLEVENT:
        raise BadNotificationError("taskid is not 1 to 24 hexadecimal digits")
    return None


def _named(
    command: Command, parameters: Parameters, received: datetime, zone: ZoneInfo
) -> datetime | None:
    """Return the notification's own time, as it says it."""
    named = None
    if command is Command.CLASSIFICATIONEVENT:
        named = named_moment(parameters.get("timestamp"), received, zone)
    return named or named_moment(parameters.get("eventtime"), received, zone)
