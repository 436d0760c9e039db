"""Rows made by hand, with columns of other types than the reference schema's where a test asks."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg

from daemon.demo.record_ids import ids
from daemon.demo.rows import Call, Code, Event, Leg, Sample, Visit, load

START = datetime(2026, 11, 20, 9, 0, 0, 123_000, tzinfo=UTC)
"""A Friday morning, far from any change of the clocks."""
RECORD = ids(0)[1]
NIGHTS = {
    "the clock is put back": datetime(2026, 10, 24, 22, tzinfo=UTC),
    "the clock is put forward": datetime(2026, 3, 28, 22, tzinfo=UTC),
}
"""Midnight in Berlin, some hours before its clocks change."""

TIME_COLUMNS = {
    "StatisticsPartA": ("dtCallStart", "dtCallEnd"),
    "AcdStatisticsPartB": ("dtGroupStart",),
    "StatisticsPartB": ("dtCallStart", "dtCallAlert", "dtCallConnect", "dtCallEnd"),
    "AcdStatisticsTransactionCodes": ("dtCreated",),
    "AcdEvents": ("dtCreated",),
}
Row = Call | Visit | Leg | Code | Event


def at(seconds: float) -> datetime:
    """So many seconds into the call."""
    return START + timedelta(seconds=seconds)


def call(number: int, **changed: Any) -> Call:
    """A call of two minutes that wants to be sent."""
    usual = Call(
        id=number,
        clientsid=1,
        servicenumbersid=1,
        boutbound=False,
        anumber="+49 (0) 30 23125 017",
        bnumber="4930231250100",
        dtcallstart=at(0),
        dtcallalert=None,
        dtcallconnect=None,
        dtcallend=at(120),
        causecodesid=16,
        userdata=RECORD,
    )
    return usual._replace(**changed)


def ended(number: int, at: datetime, **changed: Any) -> Call:
    """A call of a minute that ended then."""
    return call(number, dtcallstart=at - timedelta(minutes=1), dtcallend=at, **changed)


def running(number: int, since: datetime, **changed: Any) -> Call:
    """A call without an end."""
    return call(number, dtcallstart=since, dtcallend=None, **changed)


def visit(number: int, of: int, **changed: Any) -> Visit:
    """A group that the call was routed to."""
    return Visit(number, of, 3, 4, 7, at(5))._replace(**changed)


def leg(number: int, of: int, in_visit: int | None, **changed: Any) -> Leg:
    """An attempt that was answered."""
    usual = Leg(number, of, in_visit, 1, at(10), at(11), at(12.5), at(100), 1, 17)
    return usual._replace(**changed)


def code(number: int, of: int, in_visit: int | None, on_leg: int | None, **changed: Any) -> Code:
    """A code that an agent recorded after the call."""
    return Code(number, of, in_visit, on_leg, 1, 2, at(130), None)._replace(**changed)


def event(number: int, **changed: Any) -> Event:
    """A callback request that names no call."""
    usual = Event(
        id=number,
        clientsid=1,
        acdeventtypesid=3,
        acdgroupsid=3,
        acdconfigurationgroupsid=None,
        acdagentgroupsid=None,
        usersid=None,
        creatingusersid=None,
        statisticspartaid=None,
        sender="+49 (0) 30 23125 018",
        receiver="4930231250100",
        subject="Please call back",
        eventdata=None,
        userdata=RECORD,
        salesforcequeryresult=None,
        dtcreated=at(0),
    )
    return usual._replace(**changed)


def sample(*rows: Row) -> Sample:
    """Sort rows into their tables, beside the demo's master rows."""
    made = Sample()
    for row in rows:
        match row:
            case Call():
                made.calls.append(row)
            case Visit():
                made.visits.append(row)
            case Leg():
                made.legs.append(row)
            case Code():
                made.codes.append(row)
            case Event():
                made.events.append(row)
    return made


async def add(db: asyncpg.Connection, *rows: Row) -> None:
    """Insert rows; the master rows are there already, or are not wanted."""
    made = sample(*rows)
    none: Any = ()
    await load(
        db,
        replace(made, service_numbers=none, users=none, groups=none, transaction_codes=none),
    )


def on_local_clocks(row: Any, zone: ZoneInfo) -> Any:
    """Return the row as a table with `timestamp` columns has it."""
    moments = {
        name: moment.astimezone(zone).replace(tzinfo=None)
        for name, moment in row._asdict().items()
        if isinstance(moment, datetime)
    }
    return row._replace(**moments)


async def retype(db: asyncpg.Connection, table: str, type_name: str, *columns: str) -> None:
    """Change columns to what another ACD's tables or views may have instead."""
    for column in columns:
        await db.execute(f"ALTER TABLE {table} ALTER {column} TYPE {type_name}")


async def local_times(
    db: asyncpg.Connection, tables: Iterable[str] = tuple(TIME_COLUMNS), zone: str = "Europe/Berlin"
) -> None:
    """Make `timestamp` columns of the ACD server's local time."""
    for table in tables:
        for column in TIME_COLUMNS[table]:
            await db.execute(
                f"ALTER TABLE {table} ALTER {column} TYPE timestamp(3)"
                f" USING {column} AT TIME ZONE '{zone}'"
            )
