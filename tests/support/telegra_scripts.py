"""Whole calls of a Telegra ACD as short scripts, with the rows and records that they must give.

A script has a line for each notification: seconds since `START`, eventtype, parameters. Expected
rows are written with the numbers of the lines as ids and with seconds as times.
"""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from daemon.demo.rows import Call, Code, Leg, Sample, ServiceNumber, Visit
from daemon.telegra.notifications import Notification, understood
from daemon.telegra.parameters import Parameters
from daemon.telegra.rows import CallRows, Masters, call_rows, masters_of
from tests.support.expected import BERLIN, data_lines

START = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
COUNTRY = "49"
TASK = "5f0a1bc2"
SHORT = {
    "agent": "agentid",
    "group": "groupid",
    "hotline": "hotlineid",
    "mandator": "mandatorid",
    "from": "callingnumber",
    "to": "callednumber",
}
"""Short names of parameters in scripts."""


@dataclass(frozen=True, slots=True)
class Script:
    """A call: what is told of it, and what must become of it."""

    name: str
    told: str
    rows: str
    records: str
    start: datetime = START
    zone: ZoneInfo = BERLIN


def parameters_of(script: Script) -> list[Parameters]:
    """Return the parameters of each notification, in the order of the script."""
    return [_parameters(number, line, script) for number, line in numbered(script.told)]


def numbered(text: str) -> list[tuple[int, str]]:
    """Return the lines that are not empty, numbered from 1."""
    return list(enumerate(filter(None, map(str.strip, text.splitlines())), 1))


def _parameters(number: int, line: str, script: Script) -> Parameters:
    at, kind, *rest = shlex.split(line)
    pairs = dict(part.split("=", 1) for part in rest)
    short = {} if kind == "state" else SHORT
    given = {short.get(name, name): value for name, value in pairs.items()}
    when = (script.start + timedelta(seconds=float(at))).timestamp()
    common = {"customernumber": "4711", "eventtime": str(round(when * 1000))}
    if kind == "classified":
        told = {"cmd": "classificationevent", "callid": TASK, "classificationcategoryid": "3"}
    elif kind == "state":
        told = {"cmd": "agentstate", "taskid": TASK, "state": "connected"}
    else:
        told = {"cmd": "callevent", "id": str(9000 + number), "taskid": TASK, "eventtype": kind}
    renamed = {"agentid": "agent"} if kind == "classified" else {}
    return common | told | {renamed.get(name, name): value for name, value in given.items()}


def notifications_of(
    script: Script, parameters: Iterable[Parameters] | None = None
) -> list[Notification]:
    """Return the notifications as they are kept, with their lines' numbers as ids."""
    told = parameters_of(script) if parameters is None else parameters
    kept = []
    for number, said in enumerate(told, 1):
        received = script.start + timedelta(days=1)
        one = understood(said, received, script.zone)
        assert one is not None
        kept.append(Notification(number, one.command, one.at, one.parameters))
    return kept


def rows_of(script: Script) -> CallRows:
    """Return the rows of a script's call, which has the id 1."""
    rows = call_rows(1, 4711, notifications_of(script), COUNTRY)
    assert rows is not None
    return rows


def written_rows(rows: CallRows, start: datetime) -> list[str]:
    """Write rows as scripts have them."""

    def at(moment: datetime | None) -> str:
        return "-" if moment is None else f"{(moment - start).total_seconds():g}"

    def shown(value: Any) -> str:
        return "-" if value is None else str(value)

    call = rows.call
    head = (
        f"call {'out' if call.outbound else 'in'} {shown(call.a_number)} > "
        f"{shown(call.b_number)} service={shown(call.service_numbers_id)} {at(call.started)} "
        f"{at(call.alerted)} {at(call.connected)} {at(rows.ended)} cause={call.cause} "
        f"data={shown(call.user_data)}"
    )
    lines = [head]
    lines += [
        f"visit {visit.id} group={visit.group_id} {at(visit.started)}" for visit in rows.visits
    ]
    lines += [
        f"leg {leg.id} visit={shown(leg.visit_id)} agent={shown(leg.agent)} {at(leg.started)} "
        f"{at(leg.alerted)} {at(leg.connected)} {at(leg.ended)} "
        f"{shown(leg.connres)}/{shown(leg.cause)}"
        for leg in rows.legs
    ]
    lines += [
        f"code {code.id} visit={shown(code.visit_id)} leg={shown(code.leg_id)} "
        f"agent={shown(code.agent)} {code.reason} {at(code.created)}"
        for code in rows.codes
    ]
    return lines


def sample_of(rows: CallRows, masters: Masters) -> Sample:
    """Return the rows as they are in the tables, the end written."""
    call = rows.call
    reasons = {reason: number for number, reason in enumerate({code.reason for code in rows.codes})}
    return Sample(
        [
            Call(call.id, call.clients_id, call.service_numbers_id, call.outbound, call.a_number,
                 call.b_number, call.started, call.alerted, call.connected, rows.ended, call.cause,
                 call.user_data)
        ],
        [Visit(row.id, row.call_id, row.group_id, None, None, row.started) for row in rows.visits],
        [Leg(*row) for row in rows.legs],
        [
            Code(row.id, row.call_id, row.visit_id, row.leg_id, reasons[row.reason], row.agent,
                 row.created, None)
            for row in rows.codes
        ],
        service_numbers=tuple(
            ServiceNumber(row_id, number, name)
            for row_id, (number, name) in masters.service_numbers.items()
        ),
        users=tuple(masters.users.items()),
        groups=tuple(masters.groups.items()),
        transaction_codes=tuple((number, reason) for reason, number in reasons.items()),
    )  # fmt: skip


def written_records(sample: Sample, zone: ZoneInfo = BERLIN) -> list[str]:
    """Write the records of the data lines, computed from the main contract alone."""
    return [written_record(line.record) for line in data_lines(sample, zone)]


def written_record(record: dict[str, Any]) -> str:
    """Write a record's values but the call's id, times of day only."""
    values = {name: "-" if value is None else str(value) for name, value in record.items()}
    values |= {name: value[-8:] for name, value in values.items() if name.startswith("dt")}
    values.pop("jtelStatisticsPartAID")
    return " ".join(value.replace(" ", "_") for value in values.values())


def written_script(script: Script) -> tuple[list[str], list[str]]:
    """Return rows and records of a script as they are."""
    rows = rows_of(script)
    sample = sample_of(rows, masters_of(notifications_of(script), COUNTRY))
    return written_rows(rows, script.start), written_records(sample, script.zone)
