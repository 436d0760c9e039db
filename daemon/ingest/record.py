# ruff: noqa: N815 - the 17 keys are spelt by the endpoint.
"""A data line as the 17-key JSON record of `writeCallStatistics` (contract, section 4). Pure."""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, TypeAdapter

from daemon.errors import InvalidLineError
from daemon.lines import NON_NUMERIC_ID, NOT_AN_ID, DataLine, LineKey

ID_COLUMNS = (
    "StatisticsPartA.ID",
    "AcdStatisticsPartB.ID",
    "StatisticsPartB.ID",
    "AcdStatisticsTransactionCodes.ID",
)
BIGINT_MIN = -(2**63)
BIGINT_MAX = 2**63 - 1
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.0+)?")

NO_CONNECT = -1
ENDED_BEFORE_DIALLED = 0
HALF_A_SECOND = timedelta(milliseconds=500)
SECOND = timedelta(seconds=1)
REPEATED_HOUR = timedelta(hours=1)
NOTHING = timedelta()

# The driver gives Postgres' infinities as the first and the last datetime. Nothing else in these
# years is a call's time either, and no zone's offset pushes a moment between them out of range.
INFINITE_YEARS = (1, 9999)

# A subtype before its base: True is an int, a datetime is a date.
KINDS = (
    (bool, "a boolean"),
    (int, "a whole number"),
    ((float, Decimal), "a decimal number"),
    (str, "text"),
    (datetime, "a time"),
    (date, "a date"),
    ((bytes, bytearray, memoryview), "binary data"),
)

ADDRESS_END = re.compile(r"[@;]")
NOT_A_DIGIT = re.compile(r"[^0-9]+")

# Salesforce counts the first of five characters as the lowest bit, so the patterns read mirrored.
SUFFIX_OF_CASES = {
    f"{bits:05b}"[::-1]: character
    for bits, character in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ012345")
}
CASES = {code: "1" if chr(code).isupper() else "0" for code in range(128) if chr(code).isalnum()}


class CallStatistics(BaseModel):
    """The record: exactly these keys, in this order; None is empty."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

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
    name for name, field in CallStatistics.model_fields.items() if field.annotation == (str | None)
)
RECORD = TypeAdapter(CallStatistics)


class LegTiming(NamedTuple):
    """How the leg went, or the call where a line has no leg."""

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
    if min(line.key) < NON_NUMERIC_ID:
        column = ID_COLUMNS[
            next(place for place, part in enumerate(line.key) if part < NON_NUMERIC_ID)
        ]
        raise InvalidLineError(f"{column} {NOT_AN_ID}")
    outbound = outbound_flag(line.outbound)
    number = (
        text(line.b_number, "StatisticsPartA.BNumber")
        if outbound
        else text(line.a_number, "StatisticsPartA.ANumber")
    )
    course = leg_timing(line, zone) if line.has_leg else call_timing(line, zone)
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
        dtCallStart=course.start,
        dtCallAlert=course.alert,
        dtCallConnect=course.connect,
        dtCallEnd=course.end,
        nDuration=course.duration,
        CONNRES=course.connres,
        Cause=course.cause,
        TransactionCodeExportKey=text(line.export_key, "TransactionCodes.ExportKey"),
    )


def to_json(record: CallStatistics, empty_as_string: bool) -> bytes:
    """Give the request's body: compact UTF-8 JSON.

    With `empty_as_string` empty strings and times are "" instead of null; integers stay null.
    """
    if empty_as_string:
        empty = {key: "" for key in TEXT_KEYS if getattr(record, key) is None}
        record = record.model_copy(update=empty)
    return RECORD.dump_json(record)


def lane(line_key: LineKey, salesforce_id: str | None) -> str:
    """Name the queue in which lines wait for each other: one for each Salesforce record.

    The 15- and the 18-character form are one record. A line without an id waits for nobody.
    """
    return salesforce_id[:15] if salesforce_id else str(line_key)


def leg_timing(line: DataLine, zone: ZoneInfo) -> LegTiming:
    """Tell the leg's times, which set the attempts of one call apart."""
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
    """Tell the call's own times, for a line on which nobody was dialled."""
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
    address = ADDRESS_END.split(number, maxsplit=1)[0]
    # The `sip:` or `tel:` in front holds no digits and needs no step of its own.
    digits = NOT_A_DIGIT.sub("", address.replace("(0)", ""))
    zeros = len(digits) - len(digits.lstrip("0"))
    return digits[zeros - zeros % 2 :] or None


def salesforce_id(user_data: str | None) -> str | None:
    """Give user data that is a Salesforce record id, trimmed but otherwise as stored, or None.

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
    """Compute the three characters by which an 18-character id tells upper from lower case."""
    cases = short_id.translate(CASES)
    return SUFFIX_OF_CASES[cases[:5]] + SUFFIX_OF_CASES[cases[5:10]] + SUFFIX_OF_CASES[cases[10:15]]


def local_time(moment: datetime | None, zone: ZoneInfo) -> str | None:
    """Write a moment as `YYYY-MM-DDThh:mm:ss` on the zone's clock; a naive one already is.

    Raises OverflowError for Postgres' infinities.
    """
    if moment is None:
        return None
    if moment.year in INFINITE_YEARS:
        raise OverflowError("no moment of a call")
    local = moment if moment.tzinfo is None else moment.astimezone(zone)
    return local.isoformat()[:19]


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


def instant(moment: datetime, zone: ZoneInfo) -> datetime:
    """Give a moment in UTC, because Python compares two times of one zone by their clocks.

    A naive moment is on the zone's clock.
    """
    aware = moment.replace(tzinfo=zone) if moment.tzinfo is None else moment
    return aware.astimezone(UTC)


def local_column(value: object, zone: ZoneInfo, column: str) -> str | None:
    """Write a time column's value as local time; None where it is empty."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise InvalidLineError(f"{column} holds {kind(value)} where a time belongs")
    try:
        return local_time(value, zone)
    except OverflowError as error:
        raise InvalidLineError(f"{column} is out of range") from error


def text(value: object, column: str) -> str | None:
    """Give a text column's value unchanged; None where it is empty."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InvalidLineError(f"{column} holds {kind(value)} where text belongs")
    return value


def call_id(value: object) -> int:
    """Give StatisticsPartA.ID as a number."""
    number = whole_number(value, "StatisticsPartA.ID")
    if number is None:
        raise InvalidLineError("StatisticsPartA.ID is empty where a whole number belongs")
    return number


def outbound_flag(value: object) -> Literal[0, 1]:
    """Give StatisticsPartA.bOutbound as 0 or 1, from boolean and smallint columns alike."""
    if value is None:
        raise InvalidLineError("StatisticsPartA.bOutbound is empty where 0 or 1 belongs")
    if isinstance(value, int) and value in {0, 1}:
        return 1 if value else 0
    found = "another number" if isinstance(value, int) else kind(value)
    raise InvalidLineError(f"StatisticsPartA.bOutbound holds {found} where 0 or 1 belongs")


def whole_number(value: object, column: str) -> int | None:
    """Give a number column's value; None where it is empty.

    A foreign view may hold a whole number as numeric, double precision or text.
    """
    if type(value) is int and BIGINT_MIN <= value <= BIGINT_MAX:
        return value
    if isinstance(value, str):
        value = value.strip()
    if value is None or value == "":
        return None
    if isinstance(value, float) or (isinstance(value, str) and WHOLE_NUMBER.fullmatch(value)):
        value = Decimal(value)
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise InvalidLineError(f"{column} holds {kind(value)} where a whole number belongs")
    # The range comes before int(), which would write out every digit of 1E+999999.
    finite = isinstance(value, int) or value.is_finite()
    if not (finite and BIGINT_MIN <= value <= BIGINT_MAX):
        raise InvalidLineError(f"{column} is out of range")
    if value != int(value):
        raise InvalidLineError(f"{column} holds {kind(value)} where a whole number belongs")
    return int(value)


def kind(value: object) -> str:
    """Name the kind of a value, so that a reason need not show the value itself."""
    return next((name for type_, name in KINDS if isinstance(value, type_)), "an unknown type")
