"""Rows of the ACD's tables, and loading them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple


class Call(NamedTuple):
    """A row of StatisticsPartA; the fields of all rows are named as their columns."""

    id: int
    clientsid: int
    servicenumbersid: int | None
    boutbound: bool
    anumber: str | None
    bnumber: str | None
    dtcallstart: datetime
    dtcallalert: datetime | None
    dtcallconnect: datetime | None
    dtcallend: datetime | None
    causecodesid: int | None
    userdata: str | None


class Visit(NamedTuple):
    """A row of AcdStatisticsPartB: a group that the call was routed to."""

    id: int
    statisticspartaid: int
    acdgroupsid: int | None
    acdagentgroupsid: int | None
    acdconfigurationgroupsid: int | None
    dtgroupstart: datetime | None


class Leg(NamedTuple):
    """A row of StatisticsPartB: an attempt to reach somebody."""

    id: int
    statisticspartaid: int
    acdstatisticspartbid: int | None
    usersid: int | None
    dtcallstart: datetime | None
    dtcallalert: datetime | None
    dtcallconnect: datetime | None
    dtcallend: datetime | None
    connres: int | None
    causecodesid: int | None


class Code(NamedTuple):
    """A row of AcdStatisticsTransactionCodes: what an agent recorded about the call."""

    id: int
    statisticspartaid: int
    acdstatisticspartbid: int | None
    statisticspartbid: int | None
    transactioncodesid: int
    usersid: int | None
    dtcreated: datetime
    userdata: str | None


class Event(NamedTuple):
    """A row of AcdEvents: a callback request where its type is 3."""

    id: int
    clientsid: int | None
    acdeventtypesid: int
    acdgroupsid: int | None
    acdconfigurationgroupsid: int | None
    acdagentgroupsid: int | None
    usersid: int | None
    creatingusersid: int | None
    statisticspartaid: int | None
    sender: str | None
    receiver: str | None
    subject: str | None
    eventdata: str | None
    userdata: str | None
    salesforcequeryresult: int | None
    dtcreated: datetime


class ServiceNumber(NamedTuple):
    """A row of ServiceNumbers: the number and its name."""

    id: int
    name: str | None
    name2: str | None


SERVICE_NUMBERS = (
    ServiceNumber(1, "4930231250100", "Service Hotline"),
    ServiceNumber(2, "4940669690200", "Bestellannahme"),
    ServiceNumber(3, "498999998300", "Störungsannahme"),
    ServiceNumber(4, "4969900090400", "Rechnung & Vertrag"),
    ServiceNumber(5, "492214710500", None),
)
UIDS = ("agent.w", "agent.x", "agent.y", "agent.z", *(f"agent.{n:03}" for n in range(5, 40)), None)
USERS = tuple(enumerate(UIDS, 1))
GROUP_NAMES = ("ACD Group 1", "ACD Group 2", "Vertrieb", "Technik", "Technik Süd", "Buchhaltung")
CONFIGURATION_NAMES = ("Konfiguration Technik", "Konfiguration Vertrieb")
GROUPS = tuple(enumerate((*GROUP_NAMES, *CONFIGURATION_NAMES), 1))
KEYS = ("AAA", "BBB", "CCC", "RUECKRUF", "ERLEDIGT", "BESCHWERDE", None)
TRANSACTION_CODES = tuple(enumerate(KEYS, 1))


@dataclass(frozen=True, slots=True)
class Sample:
    """The rows of a day, table by table."""

    calls: list[Call] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    legs: list[Leg] = field(default_factory=list)
    codes: list[Code] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    service_numbers: tuple[ServiceNumber, ...] = SERVICE_NUMBERS
    users: tuple[tuple[int, str | None], ...] = USERS
    groups: tuple[tuple[int, str | None], ...] = GROUPS
    transaction_codes: tuple[tuple[int, str | None], ...] = TRANSACTION_CODES


async def load(connection: Any, sample: Sample, schema: str | None = None) -> None:
    """Copy a day into its tables in one transaction; without `schema` search_path finds them."""
    tables: list[tuple[str, tuple[str, ...], Any]] = [
        ("servicenumbers", ServiceNumber._fields, sample.service_numbers),
        ("users", ("id", "uid"), sample.users),
        ("acdgroups", ("id", "name"), sample.groups),
        ("transactioncodes", ("id", "exportkey"), sample.transaction_codes),
        ("statisticsparta", Call._fields, sample.calls),
        ("acdstatisticspartb", Visit._fields, sample.visits),
        ("statisticspartb", Leg._fields, sample.legs),
        ("acdstatisticstransactioncodes", Code._fields, sample.codes),
    ]
    if sample.events:  # not every ACD database has the table
        tables.append(("acdevents", Event._fields, sample.events))
    async with connection.transaction():
        for table, columns, records in tables:
            await connection.copy_records_to_table(
                table, records=records, columns=columns, schema_name=schema
            )


async def load_events(connection: Any, events: Sequence[Event], schema: str | None = None) -> None:
    """Copy events into AcdEvents, all or none; without `schema` search_path finds it."""
    await connection.copy_records_to_table(
        "acdevents", records=events, columns=Event._fields, schema_name=schema
    )
