"""Hand-made calls for tests that need to know every row."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from daemon.demo.record_ids import ids

CLIENT = 1
SERVICE, SERVICE_NAME = "498001234567", "Sales hotline"
W, X, Y, Z = 11, 12, 13, 14
GROUP_1, GROUP_2 = 21, 22
AAA, BBB, CCC = 31, 32, 33


async def insert(connection: asyncpg.Connection, table: str, **values: Any) -> None:
    """Insert one row by column names."""
    names = ", ".join(values)
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await connection.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", *values.values())


async def masters(connection: asyncpg.Connection) -> None:
    """Insert the master rows that the calls here refer to."""
    await insert(connection, "ServiceNumbers", ID=1, Name=SERVICE, Name2=SERVICE_NAME)
    for number, uid in ((W, "agent.w"), (X, "agent.x"), (Y, "agent.y"), (Z, "agent.z")):
        await insert(connection, "Users", ID=number, UID=uid)
    for number, name in ((GROUP_1, "Sales"), (GROUP_2, "Service")):
        await insert(connection, "AcdGroups", ID=number, Name=name)
    for number, key in ((AAA, "AAA"), (BBB, "BBB"), (CCC, "CCC")):
        await insert(connection, "TransactionCodes", ID=number, ExportKey=key)


async def seed_003(
    connection: asyncpg.Connection, *, call: int = 1201, start: datetime, record: str | None
) -> None:
    """Insert the vendor's example call: two groups, four attempts, three codes."""

    def at(seconds: float) -> datetime:
        return start + timedelta(seconds=seconds)

    await insert(
        connection, "StatisticsPartA", ID=call, ClientsID=CLIENT, ServiceNumbersID=1,
        bOutbound=False, ANumber="+49 (0) 30 1234567", BNumber=SERVICE, dtCallStart=at(0),
        dtCallAlert=None, dtCallConnect=at(1), dtCallEnd=at(400), CauseCodesID=16, UserData=record,
    )  # fmt: skip
    for visit, group, seconds in ((call + 1000, GROUP_1, 2), (call + 1001, GROUP_2, 60)):
        await insert(
            connection, "AcdStatisticsPartB", ID=visit, StatisticsPartAID=call, AcdGroupsID=group,
            AcdAgentGroupsID=group, AcdConfigurationGroupsID=None, dtGroupStart=at(seconds),
        )  # fmt: skip
    legs = (
        # leg, visit, agent, start, alert, connect, end, CONNRES, cause
        (call + 2000, call + 1000, W, 5, 6, None, 20, 2, 19),
        (call + 2001, call + 1000, X, 25, 26, None, 30, 4, 21),
        (call + 2002, call + 1001, Y, 65, 66, 70, 250.499, 1, 16),
        (call + 2003, call + 1001, Z, 260, None, 265, 399.9, 1, 16),
    )
    for leg, visit, agent, began, alert, connect, end, result, cause in legs:
        await insert(
            connection, "StatisticsPartB", ID=leg, StatisticsPartAID=call,
            AcdStatisticsPartBID=visit, UsersID=agent, dtCallStart=at(began),
            dtCallAlert=alert and at(alert), dtCallConnect=connect and at(connect),
            dtCallEnd=at(end), CONNRES=result, CauseCodesID=cause,
        )  # fmt: skip
    codes = ((call + 3000, 2, AAA, 240), (call + 3001, 3, BBB, 390), (call + 3002, 3, CCC, 410))
    for code, leg, key, seconds in codes:
        await insert(
            connection, "AcdStatisticsTransactionCodes", ID=code, StatisticsPartAID=call,
            AcdStatisticsPartBID=call + 1001, StatisticsPartBID=call + 2000 + leg,
            TransactionCodesID=key, UsersID=(W, X, Y, Z)[leg], dtCreated=at(seconds), UserData=None,
        )  # fmt: skip


async def plain_call(
    connection: asyncpg.Connection,
    call: int,
    *,
    record: str | None,
    ended: datetime | None = None,
    number: str = "004930998877",
) -> str:
    """Insert a call that hung up at once: one line, `call-0-0-0`; returns that key."""
    ended = ended or datetime.now(UTC)
    await insert(
        connection, "StatisticsPartA", ID=call, ClientsID=CLIENT, ServiceNumbersID=1,
        bOutbound=False, ANumber=number, BNumber=SERVICE,
        dtCallStart=ended - timedelta(seconds=9), dtCallEnd=ended, CauseCodesID=16, UserData=record,
    )  # fmt: skip
    return f"{call}-0-0-0"


def record_id(number: int) -> str:
    """An id of a record that exists in the stand-in; another number, another record."""
    return ids(number)[0]


def long_id(number: int) -> str:
    """The 18-character form of the same record."""
    return ids(number)[1]
