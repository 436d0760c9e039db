# ruff: noqa: N815 - the 17 keys are spelt by the endpoint.
"""A data line as the 17-key JSON record of `writeCallStatistics`. Pure."""

import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple, get_type_hints
from zoneinfo import ZoneInfo

import orjson

from daemon.errors import InvalidLineError
from daemon.ingest.columns import (
    REPEATED_HOUR,
    instant,
    kind,
    local_column,
    text,
    whole_number,
)
from daemon.lines import NON_NUMERIC_ID, NOT_AN_ID, DataLine, LineKey

ID_COLUMNS = (
    "StatisticsPartA.ID",
    "AcdStatisticsPartB.ID",
    "StatisticsPartB.ID",
    "AcdStatisticsTransactionCodes.ID",
)

NO_CONNECT = -1
ENDED_BEFORE_DIALLED = 0
HALF_A_SECOND = timedelta(milliseconds=500)
SECOND = timedelta(seconds=1)
NOTHING = timedelta()

IDS_KEPT = 4096
"""Texts whose Salesforce id is kept: a call's lines, and many calls, share one."""
ADDRESS_END = re.compile(r"[@;]")
NOT_A_DIGIT = re.compile(r"[^0-9]+")

# Salesforce counts the first of five characters as the lowest bit, so the patterns read mirrored.
SUFFIX_OF_CASES = {
    f"{bits:05b}"[::-1]: character
    for bits, character in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ012345")
}
CASES = {code: "1" if chr(code).isupper() else "0" for code in range(128) if chr(code).isalnum()}


class CallStatistics(NamedTuple):
    """The record: exactly these keys, in this order; None is empty."""

    SalesForceID: str | None
    jtelStatisticsPartAID: int
    AgentUID: str | None
    bOutbound: Literal[0, 1]
    CallerID: str | None
    ServiceNumber: str | None
    ServiceName: str | None
    AcdAgentGroupsName: str | None
    AcdConfigurationGroupsName: str | None
    dtCallStart: str | None
    dtCallAlert: str | None
    dtCallConnect: str | None
    dtCallEnd: str | None
    nDuration: int
    CONNRES: int | None
    Cause: int | None
    TransactionCodeExportKey: str | None


TEXT_KEYS = tuple(
    key for key, kind in get_type_hints(CallStatistics).items() if kind == (str | None)
)


class LegTiming(NamedTuple):
    """When the leg was dialled, answered and ended, or the call where a line has no leg."""

    start: str | None
    alert: str | None
    connect: str | None
    end: str | None
    duration: int
    connres: int | None
    cause: int | None


def call_statistics(line: DataLine, zone: ZoneInfo) -> CallStatistics:
    """Turn a line into its record; `zone` is the ACD server's.

    Raises InvalidLineError where a column holds what the record cannot say. Its message names
    the column and the kind of value, never the value: it is kept and logged, and a phone number
    must not be.
    """
    if min(line.key.ids) < NON_NUMERIC_ID:
        column = ID_COLUMNS[
            next(place for place, part in enumerate(line.key.ids) if part < NON_NUMERIC_ID)
        ]
        raise InvalidLineError(f"{column} {NOT_AN_ID}")
    outbound = outbound_flag(line.outbound)
    number = (
        text(line.b_number, "StatisticsPartA.BNumber")
        if outbound
        else text(line.a_number, "StatisticsPartA.ANumber")
    )
    timing = leg_timing(line, zone) if line.has_leg else call_timing(line, zone)
    return CallStatistics(
        SalesForceID=(
            salesforce_id(text(line.code_user_data, "AcdStatisticsTransactionCodes.UserData"))
            or salesforce_id(text(line.call_user_data, "StatisticsPartA.UserData"))
        ),
        jtelStatisticsPartAID=call_id(line.call_number),
        AgentUID=text(line.agent_uid, "Users.UID"),
        bOutbound=outbound,
        CallerID=caller_id(number),
        ServiceNumber=text(line.service_number, "ServiceNumbers.Name"),
        ServiceName=text(line.service_name, "ServiceNumbers.Name2"),
        AcdAgentGroupsName=text(line.agent_group, "AcdGroups.Name"),
        AcdConfigurationGroupsName=text(line.configuration_group, "AcdGroups.Name"),
        dtCallStart=timing.start,
        dtCallAlert=timing.alert,
        dtCallConnect=timing.connect,
        dtCallEnd=timing.end,
        nDuration=timing.duration,
        CONNRES=timing.connres,
        Cause=timing.cause,
        TransactionCodeExportKey=text(line.export_key, "TransactionCodes.ExportKey"),
    )


def to_json(record: CallStatistics, empty_as_string: bool) -> bytes:
    """Return the request's body: compact UTF-8 JSON.

    With `empty_as_string` empty strings and times are "" instead of null; integers stay null.
    """
    fields = record._asdict()
    if empty_as_string:
        fields |= {key: "" for key in TEXT_KEYS if fields[key] is None}
    return orjson.dumps(fields)


def lane(line_key: LineKey, salesforce_id: str | None) -> str:
    """Return the lane of a line: one for each Salesforce record.

    The 15- and the 18-character form are one record. A line without an id waits for nobody.
    """
    return salesforce_id[:15] if salesforce_id else str(line_key)


def leg_timing(line: DataLine, zone: ZoneInfo) -> LegTiming:
    """Return the leg's times, which set the attempts of one call apart."""
    connect = local_column(line.leg_connect, zone, "StatisticsPartB.dtCallConnect")
    end = local_column(line.leg_end, zone, "StatisticsPartB.dtCallEnd")
    if connect is not None and end is None:
        # Not sent, but the duration counts up to it.
        local_column(line.call_end, zone, "StatisticsPartA.dtCallEnd")
    return LegTiming(
        start=local_column(line.leg_start, zone, "StatisticsPartB.dtCallStart"),
        alert=local_column(line.leg_alert, zone, "StatisticsPartB.dtCallAlert"),
        connect=connect,
        end=end,
        duration=duration(line.leg_connect, line.leg_end, line.call_end, zone),
        connres=whole_number(line.leg_connres, "StatisticsPartB.CONNRES"),
        cause=whole_number(line.leg_cause, "StatisticsPartB.CauseCodesID"),
    )


def call_timing(line: DataLine, zone: ZoneInfo) -> LegTiming:
    """Return the call's own times, for a line on which nobody was dialled."""
    return LegTiming(
        start=local_column(line.call_start, zone, "StatisticsPartA.dtCallStart"),
        alert=None,
        connect=None,
        end=local_column(line.call_end, zone, "StatisticsPartA.dtCallEnd"),
        duration=NO_CONNECT,
        connres=ENDED_BEFORE_DIALLED,
        cause=whole_number(line.call_cause, "StatisticsPartA.CauseCodesID"),
    )


def caller_id(number: str | None) -> str | None:
    """Reduce a number or a SIP or tel address to E.164 digits without `+` or leading `00`.

    None where no digits are left, as for a withheld number.
    """
    if number is None:
        return None
    digits = number.removeprefix("+")
    if not (digits.isascii() and digits.isdigit()):
        address = ADDRESS_END.split(number, maxsplit=1)[0]
        # The `sip:` or `tel:` in front holds no digits and needs no step of its own.
        digits = NOT_A_DIGIT.sub("", address.replace("(0)", ""))
    zeros = len(digits) - len(digits.lstrip("0"))
    return digits[zeros - zeros % 2 :] or None


@lru_cache(IDS_KEPT)
def salesforce_id(user_data: str | None) -> str | None:
    """Return user data that is a Salesforce record id, trimmed but otherwise as stored, or None.

    An id is 15 ASCII letters and digits, or 18 that end in the right case suffix.
    """
    if user_data is None:
        return None
    trimmed = user_data.strip()
    if not (trimmed.isascii() and trimmed.isalnum()):
        return None
    if len(trimmed) == 18 and trimmed[15:] != case_suffix(trimmed[:15]):
        return None
    return trimmed if len(trimmed) in {15, 18} else None


def case_suffix(short_id: str) -> str:
    """Compute the suffix of an 18-character id, which encodes upper and lower case."""
    cases = short_id.translate(CASES)
    return SUFFIX_OF_CASES[cases[:5]] + SUFFIX_OF_CASES[cases[5:10]] + SUFFIX_OF_CASES[cases[10:15]]


def duration(
    connect: datetime | None, end: datetime | None, call_end: datetime | None, zone: ZoneInfo
) -> int:
    """Count the seconds from connect to end, half a second up; -1 without connect.

    Without an end the call's end counts, without that 0. Aware times are compared as instants.
    Two naive ones are compared as they are, and where the end is earlier, the clock was put back
    in between.
    """
    if connect is None:
        return NO_CONNECT
    end = call_end if end is None else end
    if end is None:
        return 0
    if connect.tzinfo is None and end.tzinfo is None:
        elapsed = end - connect
        if elapsed < NOTHING:
            elapsed += REPEATED_HOUR
    else:
        elapsed = instant(end, zone) - instant(connect, zone)
    return max(0, (elapsed + HALF_A_SECOND) // SECOND)


def call_id(value: object) -> int:
    """Return StatisticsPartA.ID as a number."""
    number = whole_number(value, "StatisticsPartA.ID")
    if number is None:
        raise InvalidLineError("StatisticsPartA.ID is empty where a whole number belongs")
    return number


def outbound_flag(value: object) -> Literal[0, 1]:
    """Return StatisticsPartA.bOutbound as 0 or 1, from boolean and smallint columns alike."""
    if value is None:
        raise InvalidLineError("StatisticsPartA.bOutbound is empty where 0 or 1 belongs")
    if isinstance(value, int) and value in {0, 1}:
        return 1 if value else 0
    found = "another number" if isinstance(value, int) else kind(value)
    raise InvalidLineError(f"StatisticsPartA.bOutbound holds {found} where 0 or 1 belongs")
