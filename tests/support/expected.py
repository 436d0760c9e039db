"""Data lines and their records, computed a second time from the contract's words alone.

Nothing of `daemon.ingest` is used: rows in, sections 3 and 4 by hand, lines out.
"""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from daemon.demo.rows import Call, Code, Leg, Sample, Visit

BERLIN = ZoneInfo("Europe/Berlin")
NULLS_LAST = datetime.max.replace(tzinfo=UTC)
ASCII_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

NUMBERS_THAT_MAY_BE_EMPTY = {"CONNRES", "Cause", "AcdGroupsID", "CreatingUsersID", "TargetUsersID"}
"""Of both feeds' records: null whatever EMPTY_AS says."""

Row = TypeVar("Row", Visit, Leg, Code)


class Line(NamedTuple):
    """A data line's key, and its record with the 17 keys in order."""

    key: str
    record: dict[str, Any]

    @property
    def body(self) -> str:
        """The record as compact JSON."""
        return json.dumps(self.record, ensure_ascii=False, separators=(",", ":"))

    def with_empty_strings(self) -> "Line":
        """Return the line as EMPTY_AS=string has it."""
        return self._replace(
            record={
                name: "" if value is None and name not in NUMBERS_THAT_MAY_BE_EMPTY else value
                for name, value in self.record.items()
            }
        )


def data_lines(sample: Sample, zone: ZoneInfo = BERLIN) -> list[Line]:
    """Expand all calls, those that ended (never-ended: started) first first."""
    calls = sorted(sample.calls, key=lambda call: (call.dtcallend or call.dtcallstart, call.id))
    return [line for call in calls for line in lines_of(sample, call, zone)]


def lines_of(sample: Sample, call: Call, zone: ZoneInfo = BERLIN) -> list[Line]:
    """Expand one call."""
    return [
        Line(
            f"{call.id}-{group or 0}-{leg_id or 0}-{code.id if code else 0}",
            record(sample, call, visit, leg, code, zone),
        )
        for group, leg_id, visit, leg, code in combinations(sample, call)
    ]


Combination = tuple[int | None, int | None, Visit | None, Leg | None, Code | None]


def combinations(sample: Sample, call: Call) -> Iterator[Combination]:
    """Yield ids of group and leg as stored, and the rows that a line is made of (section 3)."""
    visits = {row.id: row for row in sample.visits if row.statisticspartaid == call.id}
    legs = {row.id: row for row in sample.legs if row.statisticspartaid == call.id}
    codes = [row for row in sample.codes if row.statisticspartaid == call.id]

    def with_codes(leg: Leg, visit: Visit | None) -> Iterator[Combination]:
        recorded = in_order(code for code in codes if code.statisticspartbid == leg.id)
        for code in recorded:
            yield leg.acdstatisticspartbid, leg.id, visit, leg, code
        if not recorded:
            yield leg.acdstatisticspartbid, leg.id, visit, leg, None

    for visit in in_order(visits.values()):
        attempts = in_order(leg for leg in legs.values() if leg.acdstatisticspartbid == visit.id)
        for leg in attempts:
            yield from with_codes(leg, visit)
        if not attempts:
            yield visit.id, None, visit, None, None
    for leg in in_order(leg for leg in legs.values() if leg.acdstatisticspartbid not in visits):
        yield from with_codes(leg, None)
    if not visits and not legs:
        yield None, None, None, None, None
    for code in in_order(code for code in codes if code.statisticspartbid not in legs):
        about = visits.get(code.acdstatisticspartbid or 0)
        yield code.acdstatisticspartbid, code.statisticspartbid, about, None, code


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Sort by (time, ID), NULL times last."""
    return sorted(rows, key=lambda row: (time_of(row) or NULLS_LAST, row.id))


def time_of(row: Visit | Leg | Code) -> datetime | None:
    """Return the time by which rows of this table are ordered."""
    if isinstance(row, Visit):
        return row.dtgroupstart
    return row.dtcallstart if isinstance(row, Leg) else row.dtcreated


def record(
    sample: Sample,
    call: Call,
    visit: Visit | None,
    leg: Leg | None,
    code: Code | None,
    zone: ZoneInfo,
) -> dict[str, Any]:
    """Fill the 17 keys of section 4, in order."""
    services = {row.id: row for row in sample.service_numbers}
    service = services.get(call.servicenumbersid or 0)
    users, groups = dict(sample.users), dict(sample.groups)
    user = (leg.usersid if leg else None) or (code.usersid if code else None)
    agents = configuration = None
    if visit:
        agents = groups.get(visit.acdagentgroupsid or visit.acdgroupsid or 0)
        chosen = visit.acdconfigurationgroupsid
        configuration = groups.get(chosen) if chosen else agents
    times = leg or call
    return {
        "SalesForceID": (
            salesforce_id(code.userdata if code else None) or salesforce_id(call.userdata)
        ),
        "jtelStatisticsPartAID": call.id,
        "AgentUID": users.get(user or 0) or None,
        "bOutbound": 1 if call.boutbound else 0,
        "CallerID": caller_id(call.bnumber if call.boutbound else call.anumber),
        "ServiceNumber": (service.name if service else None) or None,
        "ServiceName": (service.name2 if service else None) or None,
        "AcdAgentGroupsName": agents or None,
        "AcdConfigurationGroupsName": configuration or None,
        "dtCallStart": local(times.dtcallstart, zone),
        "dtCallAlert": local(leg.dtcallalert if leg else None, zone),
        "dtCallConnect": local(leg.dtcallconnect if leg else None, zone),
        "dtCallEnd": local(times.dtcallend, zone),
        "nDuration": duration(leg, call),
        "CONNRES": leg.connres if leg else 0,
        "Cause": times.causecodesid,
        "TransactionCodeExportKey": (
            dict(sample.transaction_codes).get(code.transactioncodesid) if code else None
        )
        or None,
    }


def local(moment: datetime | None, zone: ZoneInfo) -> str | None:
    """Write local time without offset, the fraction cut off."""
    return None if moment is None else moment.astimezone(zone).strftime("%Y-%m-%dT%H:%M:%S")


def duration(leg: Leg | None, call: Call) -> int:
    """Count seconds of connection, half up, never negative; -1 without one."""
    if leg is None or leg.dtcallconnect is None:
        return -1
    end = leg.dtcallend or call.dtcallend
    if end is None:
        return 0
    milliseconds = round((end - leg.dtcallconnect).total_seconds() * 1000)
    return max(0, (milliseconds + 500) // 1000)


def caller_id(number: str | None) -> str | None:
    """Keep the digits of a number or an address, without leading 00."""
    address = re.split("[@;]", number or "")[0]
    digits = re.sub("[^0-9]", "", re.sub(r"sip:|tel:|\(0\)", "", address))
    return re.sub("^(00)+", "", digits) or None


def salesforce_id(text: str | None) -> str | None:
    """Return the text if, trimmed, it is a record id of 15 or a right one of 18 characters."""
    trimmed = (text or "").strip()
    if not re.fullmatch("[0-9A-Za-z]{15}([0-9A-Za-z]{3})?", trimmed):
        return None
    suffix = ""
    for start in (0, 5, 10):
        mirrored = reversed(trimmed[start : start + 5])
        pattern = int("".join("1" if char in ASCII_UPPER else "0" for char in mirrored), 2)
        suffix += "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"[pattern]
    return trimmed if trimmed[15:] in ("", suffix) else None
