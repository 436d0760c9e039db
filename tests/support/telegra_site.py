"""Stores of a Telegra installation, what they are told, and the rows that they wrote."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from daemon.telegra.notifications import Received, understood
from daemon.telegra.parameters import Parameters
from daemon.telegra.rows import CallRow, CallRows, CodeRow, LegRow, VisitRow
from daemon.telegra.store import Rules, TelegraStore, open_store
from tests.support.expected import BERLIN
from tests.support.telegra_scripts import COUNTRY

TELEGRA_SCHEMA = "telegra"
FOREVER = timedelta(days=1000)
RULES = Rules(COUNTRY, grace=timedelta(0), settle_delay=FOREVER, lookback=FOREVER)
"""Ends are written at once, and no call is ever settled."""


def store_of(dsn: str, rules: Rules = RULES) -> AbstractAsyncContextManager[TelegraStore]:
    """Open a store of one instance."""
    return open_store(dsn, [TELEGRA_SCHEMA], rules)


def told(parameters: Parameters, received: datetime | None = None) -> Received:
    """Return a notification as the door understands it."""
    one = understood(parameters, received or datetime.now(UTC), BERLIN)
    assert one is not None
    return one


def event(kind: str, event_id: int, task: str = "5f", **more: str) -> Received:
    """Return a callevent."""
    given = {"cmd": "callevent", "id": str(event_id), "taskid": task, "eventtype": kind}
    return told(given | {"customernumber": "4711"} | more)


def classified(call_id: str, reason: str, agent: str = "100001", **more: str) -> Received:
    """Return a classification."""
    given = {"cmd": "classificationevent", "callid": call_id, "classificationreason": reason}
    return told(given | {"customernumber": "4711", "agent": agent} | more)


async def rows_in(db: asyncpg.Connection, call_id: int) -> CallRows:
    """Return a call's rows as they are in the tables."""
    call = await _rows(
        db,
        "SELECT ID, ClientsID, ServiceNumbersID, bOutbound, ANumber, BNumber, dtCallStart,"
        " dtCallAlert, dtCallConnect, CauseCodesID, UserData FROM StatisticsPartA WHERE ID = $1",
        call_id,
    )
    visits = await _rows(
        db,
        "SELECT ID, StatisticsPartAID, AcdGroupsID, dtGroupStart FROM AcdStatisticsPartB"
        " WHERE StatisticsPartAID = $1 ORDER BY dtGroupStart, ID",
        call_id,
    )
    legs = await _rows(
        db,
        "SELECT ID, StatisticsPartAID, AcdStatisticsPartBID, UsersID, dtCallStart, dtCallAlert,"
        " dtCallConnect, dtCallEnd, CONNRES, CauseCodesID FROM StatisticsPartB"
        " WHERE StatisticsPartAID = $1 ORDER BY dtCallStart, ID",
        call_id,
    )
    codes = await _rows(
        db,
        "SELECT t.ID, t.StatisticsPartAID, t.AcdStatisticsPartBID, t.StatisticsPartBID,"
        " c.ClassificationCategoryID, c.ClassificationReason, t.UsersID, t.dtCreated"
        " FROM AcdStatisticsTransactionCodes AS t JOIN TelegraCodes AS c"
        " ON c.TransactionCodesID = t.TransactionCodesID"
        " WHERE t.StatisticsPartAID = $1 ORDER BY t.dtCreated, t.ID",
        call_id,
    )
    ended = await db.fetchval("SELECT dtCallEnd FROM StatisticsPartA WHERE ID = $1", call_id)
    return CallRows(
        CallRow(*call[0]),
        [VisitRow(*row) for row in visits],
        [LegRow(*row) for row in legs],
        [CodeRow(*row) for row in codes],
        ended,
        incomplete=False,
    )


def renumbered(rows: CallRows, numbers: dict[int, int]) -> CallRows:
    """Return rows with other ids, for those that are in `numbers`."""

    def of(row_id: int | None) -> Any:
        return None if row_id is None else numbers[row_id]

    visits = [row._replace(id=of(row.id)) for row in rows.visits]
    return rows._replace(
        visits=sorted(visits, key=lambda row: (row.started, row.id)),
        legs=[row._replace(id=of(row.id), visit_id=of(row.visit_id)) for row in rows.legs],
        codes=[
            row._replace(id=of(row.id), visit_id=of(row.visit_id), leg_id=of(row.leg_id))
            for row in rows.codes
        ],
    )


def batches(notifications: Sequence[Received], size: int) -> Iterable[Sequence[Received]]:
    """Cut what was told into batches."""
    return (notifications[at : at + size] for at in range(0, len(notifications), size))


async def _rows(db: asyncpg.Connection, query: str, call_id: int) -> list[Any]:
    return list(await db.fetch(query, call_id))
