# ruff: noqa: N815 - the 21 keys are spelt by the endpoint.
"""A callback request as the 21-key JSON record of `createCallback` (callbacks, section 5). Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, TypeAdapter

from daemon.errors import InvalidLineError
from daemon.ingest.columns import local_column, text, whole_number
from daemon.ingest.event_body import event_body
from daemon.ingest.record import caller_id, outbound_flag, salesforce_id
from daemon.lines import NON_NUMERIC_ID, NOT_AN_ID


class CallbackRequest(NamedTuple):
    """A row of AcdEvents with its call, group, users and service number, as the driver read them.

    `Any` marks numbers that a foreign view may have as another type. `created` is an instant;
    times of the call are aware (UTC) or naive ACD server time, as its columns are.
    """

    event_id: Any
    created: datetime
    sender: str | None
    receiver: str | None
    subject: str | None
    event_data: str | None
    event_user_data: str | None
    query_result: Any
    group_id: Any
    configuration_group_id: Any
    agent_group_id: Any
    group_name: str | None
    group_foreign_id: str | None
    creator_id: Any
    creator_uid: str | None
    creator_nick_name: str | None
    target_id: Any
    target_uid: str | None
    target_nick_name: str | None
    has_call: bool
    outbound: Any
    a_number: str | None
    b_number: str | None
    call_start: datetime | None
    call_end: datetime | None
    call_user_data: str | None
    service_number: str | None
    service_name: str | None


class Callback(BaseModel):
    """The record: exactly these keys, in this order; None is empty."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    Caller: str | None
    CallbackNumber: str | None
    ServiceNumbersNumber: str | None
    ServiceNumbersName: str | None
    AcdGroupsID: int | None
    AcdGroupsName: str | None
    AcdGroupsForeignSystemID: str | None
    dtCallStart: str | None
    dtCallEnd: str | None
    ID: int
    AcdEventsID: int
    Subject: str | None
    Body: str | None
    CreatingUsersID: int | None
    CreatingUsersUID: str | None
    CreatingUsersNickName: str | None
    TargetUsersID: int | None
    TargetUsersUID: str | None
    TargetUsersNickName: str | None
    SalesforceId: str | None
    SalesforceQueryResult: int


TEXT_KEYS = tuple(
    name for name, field in Callback.model_fields.items() if field.annotation == (str | None)
)
RECORD = TypeAdapter(Callback)


def callback(request: CallbackRequest, names: Mapping[str, str | None], zone: ZoneInfo) -> Callback:
    """Turn a request into its record; `zone` is the ACD server's.

    `names` are those of service numbers, by number: see `names_by_number`. Raises
    InvalidLineError where a column holds what the record cannot say; its message names the column
    and the kind of value, never the value.
    """
    event_id = row_id(request.event_id, "AcdEvents.ID")
    if event_id is None:
        raise InvalidLineError("AcdEvents.ID is empty where a whole number belongs")
    sender = text(request.sender, "AcdEvents.Sender")
    receiver = text(request.receiver, "AcdEvents.Receiver")
    service_number = text(request.service_number, "ServiceNumbers.Name")
    service_name = text(request.service_name, "ServiceNumbers.Name2")
    record_id = salesforce_id(text(request.event_user_data, "AcdEvents.UserData")) or salesforce_id(
        text(request.call_user_data, "StatisticsPartA.UserData")
    )
    return Callback(
        Caller=caller_id(calling_number(request) or sender),
        CallbackNumber=caller_id(sender),
        ServiceNumbersNumber=caller_id(service_number or receiver),
        ServiceNumbersName=service_name or names.get(caller_id(receiver) or "") or None,
        AcdGroupsID=group_id(request),
        AcdGroupsName=text(request.group_name, "AcdGroups.Name"),
        AcdGroupsForeignSystemID=text(request.group_foreign_id, "AcdGroups.ForeignSystemID"),
        dtCallStart=local_column(request.call_start, zone, "StatisticsPartA.dtCallStart"),
        dtCallEnd=local_column(request.call_end, zone, "StatisticsPartA.dtCallEnd"),
        ID=event_id,
        AcdEventsID=event_id,
        Subject=text(request.subject, "AcdEvents.Subject"),
        Body=event_body(text(request.event_data, "AcdEvents.EventData")),
        CreatingUsersID=row_id(request.creator_id, "AcdEvents.CreatingUsersID"),
        CreatingUsersUID=text(request.creator_uid, "Users.UID"),
        CreatingUsersNickName=text(request.creator_nick_name, "Users.NickName"),
        TargetUsersID=row_id(request.target_id, "AcdEvents.UsersID"),
        TargetUsersUID=text(request.target_uid, "Users.UID"),
        TargetUsersNickName=text(request.target_nick_name, "Users.NickName"),
        SalesforceId=record_id,
        SalesforceQueryResult=query_result(request.query_result, record_id),
    )


def to_json(record: Callback, empty_as_string: bool) -> bytes:
    """Return the request's body: compact UTF-8 JSON.

    With `empty_as_string` empty strings and times are "" instead of null; integers stay null.
    """
    if empty_as_string:
        empty = {key: "" for key in TEXT_KEYS if getattr(record, key) is None}
        record = record.model_copy(update=empty)
    return RECORD.dump_json(record)


def names_by_number(rows: Iterable[tuple[str | None, str | None]]) -> dict[str, str | None]:
    """Return the names of service numbers by their digits; of several rows the first counts."""
    names: dict[str, str | None] = {}
    for number, name in rows:
        if digits := caller_id(number):
            names.setdefault(digits, name)
    return names


def needs_name(request: CallbackRequest) -> bool:
    """Whether the service number's name can only be found by the receiver's number."""
    return not request.service_name and bool(request.receiver)


def calling_number(request: CallbackRequest) -> str | None:
    """Return the number of the call's other party; None without a call."""
    if not request.has_call:
        return None
    if outbound_flag(request.outbound):
        return text(request.b_number, "StatisticsPartA.BNumber")
    return text(request.a_number, "StatisticsPartA.ANumber")


def group_id(request: CallbackRequest) -> int | None:
    """Return the id of the group that the request is for."""
    if request.group_id is not None:
        return row_id(request.group_id, "AcdEvents.AcdGroupsID")
    if request.configuration_group_id is not None:
        return row_id(request.configuration_group_id, "AcdEvents.AcdConfigurationGroupsID")
    return row_id(request.agent_group_id, "AcdEvents.AcdAgentGroupsID")


def row_id(value: object, column: str) -> int | None:
    """Return the id of a row; None where it is empty."""
    number = whole_number(value, column)
    if number is not None and number < NON_NUMERIC_ID:
        raise InvalidLineError(f"{column} {NOT_AN_ID}")
    return number


def query_result(value: object, record_id: str | None) -> int:
    """Return what the search for the caller found: 0 nothing, 1 one record, 2 several.

    Where the column does not say it, an id was found or not.
    """
    try:
        known = whole_number(value, "AcdEvents.SalesforceQueryResult")
    except InvalidLineError:
        known = None
    if known in {0, 1, 2}:
        return known
    return 0 if record_id is None else 1
