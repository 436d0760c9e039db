"""A callback request becomes its record, whatever columns and rows the ACD's tables have."""

import json
from datetime import datetime
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from daemon import logs, metrics
from daemon.demo.rows import Event
from daemon.errors import ConfigurationError
from daemon.ingest.callbacks import UNREADABLE, CallbackFeed, CallbackOptions, CallbackSource
from daemon.ingest.event_body import MAX_OCTETS
from daemon.ingest.feed import RowRef
from daemon.ingest.schema import OPTIONAL
from daemon.ingest.source import open_source
from daemon.lines import NOT_AN_ID, FeedName, State
from tests.support.expected import BERLIN
from tests.support.rows import RECORD, add, call, event, retype
from tests.support.site import LONG_AGO, RULES, Site, without_encoding


@pytest.fixture
def feed() -> FeedName:
    return FeedName.CALLBACKS


def created(number: int, at: datetime, **changed: Any) -> Event:
    return event(number, dtcreated=at, **changed)


async def record_of(site: Site, number: int) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(
        await site.ledger_db.fetchval(
            "SELECT record FROM callstatsd.line WHERE call_id = $1 AND feed = 'callbacks'", number
        )
    )
    return record


async def errors(site: Site) -> dict[int, str | None]:
    return {row["call_id"]: row["last_error"] for row in await site.lines()}


# Columns.


async def drop(db: asyncpg.Connection, table: str, column: str) -> None:
    await db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")


WITHOUT: dict[tuple[str, str], dict[str, Any]] = {
    ("AcdEvents", "ClientsID"): {},
    ("AcdEvents", "AcdConfigurationGroupsID"): {},
    ("AcdEvents", "AcdAgentGroupsID"): {},
    ("AcdEvents", "CreatingUsersID"): {
        "CreatingUsersID": None, "CreatingUsersUID": None, "CreatingUsersNickName": None,
    },
    ("AcdEvents", "StatisticsPartAID"): {
        "Caller": "493023125018", "dtCallStart": None, "dtCallEnd": None,
    },
    ("AcdEvents", "SalesforceQueryResult"): {"SalesforceQueryResult": 1},
    ("Users", "NickName"): {"CreatingUsersNickName": None, "TargetUsersNickName": None},
    ("AcdGroups", "ForeignSystemID"): {"AcdGroupsForeignSystemID": None},
}  # fmt: skip
"""What a record lacks without an optional column."""


@pytest.mark.parametrize(("table", "column"), sorted(OPTIONAL))
async def test_a_column_that_may_be_missing_counts_as_empty(
    site: Site, table: str, column: str
) -> None:
    at = site.ago(minutes=1)
    full = created(
        1, at, usersid=1, creatingusersid=2, statisticspartaid=1, salesforcequeryresult=2
    )
    await site.add(
        call(1),
        full,
        created(2, at, acdgroupsid=None, acdconfigurationgroupsid=7, acdagentgroupsid=4),
        created(3, at, acdgroupsid=None, acdagentgroupsid=4),
    )
    await site.db.execute("UPDATE Users SET NickName = 'Nick'")
    await site.db.execute("UPDATE AcdGroups SET ForeignSystemID = 'B2B'")
    await drop(site.db, table, column)
    async with site.callbacks(start_from=LONG_AGO) as (poller, _):
        assert (await poller.poll()).lines == 3
    records = [await record_of(site, number) for number in (1, 2, 3)]
    assert records[0] == {
        "Caller": "493023125017",
        "CallbackNumber": "493023125018",
        "ServiceNumbersNumber": "4930231250100",
        "ServiceNumbersName": "Service Hotline",
        "AcdGroupsID": 3,
        "AcdGroupsName": "Vertrieb",
        "AcdGroupsForeignSystemID": "B2B",
        "dtCallStart": "2026-11-20T10:00:00",
        "dtCallEnd": "2026-11-20T10:02:00",
        "ID": 1,
        "AcdEventsID": 1,
        "Subject": "Please call back",
        "Body": None,
        "CreatingUsersID": 2,
        "CreatingUsersUID": "agent.x",
        "CreatingUsersNickName": "Nick",
        "TargetUsersID": 1,
        "TargetUsersUID": "agent.w",
        "TargetUsersNickName": "Nick",
        "SalesforceId": RECORD,
        "SalesforceQueryResult": 2,
        **WITHOUT[table, column],
    }
    fallback = 4 if column == "AcdConfigurationGroupsID" else 7
    assert records[1]["AcdGroupsID"] == fallback
    assert records[2]["AcdGroupsID"] == (None if column == "AcdAgentGroupsID" else 4)


async def test_other_columns_are_named_all_at_once(site: Site) -> None:
    for column in ("Sender", "dtCreated", "EventData"):
        await drop(site.db, "AcdEvents", column)
    await site.db.execute("ALTER TABLE AcdEvents ADD COLUMN dtCreated text")
    async with site.callbacks(prepared=False) as (poller, _):
        with pytest.raises(ConfigurationError) as caught:
            await poller.prepare(None, ("jtelstats", "pg_catalog"))
    assert caught.value.faults == (
        "column AcdEvents.Sender is missing: add it, or make a view with it",
        "column AcdEvents.EventData is missing: add it, or make a view with it",
        "column AcdEvents.dtCreated is text: it must be timestamptz or timestamp",
    )
    assert await site.ledger_value("start_from") is None


async def test_without_the_table_calls_are_taken_all_the_same(site: Site) -> None:
    await site.db.execute("DROP TABLE AcdEvents")
    await site.add(call(1, dtcallend=site.ago(minutes=5)))
    async with site.callbacks(prepared=False) as (poller, _):
        with pytest.raises(ConfigurationError, match="table AcdEvents is not in the source's"):
            await poller.prepare(None, ("jtelstats", "pg_catalog"))
    async with site.poller(start_from=LONG_AGO) as calls:
        assert (await calls.poll()).lines == 1


# Rows of foreign make.


async def test_master_rows_that_are_gone_leave_their_ids(site: Site) -> None:
    await site.add(
        call(1, servicenumbersid=999),
        created(1, site.ago(minutes=1), statisticspartaid=1, acdgroupsid=999, usersid=998,
                creatingusersid=997, receiver="+49 (0) 40 669690200"),
    )  # fmt: skip
    async with site.callbacks(start_from=LONG_AGO) as (poller, _):
        await poller.poll()
    record = await record_of(site, 1)
    empty = {key for key, value in record.items() if value is None}
    assert empty == {
        "AcdGroupsName", "AcdGroupsForeignSystemID", "CreatingUsersUID", "CreatingUsersNickName",
        "TargetUsersUID", "TargetUsersNickName", "Body",
    }  # fmt: skip
    assert (record["AcdGroupsID"], record["TargetUsersID"], record["CreatingUsersID"]) == (
        999, 998, 997,
    )  # fmt: skip
    assert record["ServiceNumbersNumber"] == "4940669690200"
    assert record["ServiceNumbersName"] == "Bestellannahme"


async def test_master_rows_twice_in_a_view_repeat_no_request(site: Site) -> None:
    await site.add(created(1, site.ago(minutes=1), usersid=1, creatingusersid=2))
    await site.db.execute(
        "ALTER TABLE Users RENAME TO own_users;"
        " CREATE VIEW Users AS SELECT * FROM own_users UNION ALL SELECT * FROM own_users"
    )
    async with site.callbacks(start_from=LONG_AGO) as (poller, _):
        assert (await poller.poll()).lines == 1


async def test_event_data_of_more_than_a_megabyte_is_no_body_and_not_read(
    site: Site, dsn: str
) -> None:
    at = site.ago(minutes=1)
    await site.add(
        created(1, at, eventdata="x" * MAX_OCTETS),
        created(2, at, eventdata="x" * (MAX_OCTETS + 1)),
        created(3, at, eventdata="ä" * (MAX_OCTETS // 2) + "x"),
    )
    async with site.callbacks(start_from=LONG_AGO) as (poller, _):
        await poller.poll()
    bodies = [(await record_of(site, number))["Body"] for number in (1, 2, 3)]
    assert bodies == ["x" * MAX_OCTETS, None, None]
    async with open_source(dsn, ("jtelstats",), BERLIN, None) as source:
        requests = CallbackSource(source.database, ("jtelstats",), None)
        assert [len(one.event_data or "") for one in await requests.requests([1, 2, 3])] == [
            MAX_OCTETS, 0, 0,
        ]  # fmt: skip


async def test_a_row_that_cannot_become_a_record_is_invalid_and_the_others_go_on(
    site: Site,
) -> None:
    at = site.ago(minutes=1)
    await site.add(
        call(1),
        *(created(number, at, statisticspartaid=1) for number in range(1, 6)),
    )
    for column in ("AcdGroupsID", "UsersID"):
        await retype(site.db, "AcdEvents", "text", column)
    await site.db.execute(
        "UPDATE AcdEvents SET AcdGroupsID = 'Sales' WHERE ID = 2;"
        " UPDATE AcdEvents SET UsersID = '1.5' WHERE ID = 3"
    )
    await site.db.execute("UPDATE StatisticsPartA SET dtCallStart = '-infinity'")
    await site.db.execute("UPDATE AcdEvents SET StatisticsPartAID = NULL WHERE ID <> 4")
    counted = metrics.counted("callstatsd_lines_total", state=State.INVALID)
    async with site.callbacks(start_from=LONG_AGO) as (poller, sweeper):
        with capture_logs() as events:
            await poller.poll()
        await sweeper.sweep(wide=True)
    assert await errors(site) == {
        1: None,
        2: f"AcdEvents.AcdGroupsID {NOT_AN_ID}",
        3: f"AcdEvents.UsersID {NOT_AN_ID}",
        4: "StatisticsPartA.dtCallStart is out of range",
        5: None,
    }
    assert [row["state"] for row in await site.lines()] == [
        "pending", "invalid", "invalid", "invalid", "pending",
    ]  # fmt: skip
    invalid = [one for one in events if one["event"] == logs.LINE_INVALID]
    assert [(one["key"], one["callback_id"], "call_id" in one) for one in invalid] == [
        (f"callback-{number}", number, False) for number in (2, 3, 4)
    ]
    assert metrics.counted("callstatsd_lines_total", state=State.INVALID) == counted
    (taken,) = [one for one in events if one["event"] == logs.POLL_TAKEN]
    assert taken.pop("seconds") >= 0
    assert taken == {
        "event": logs.POLL_TAKEN, "log_level": "info", "feed": "callbacks", "lines": 5,
    }  # fmt: skip


@pytest.mark.parametrize("type_name", ["text", "numeric", "double precision"])
async def test_ids_may_be_of_another_type_and_one_that_is_no_number_is_invalid(
    site: Site, type_name: str
) -> None:
    await site.add(*(created(number, site.ago(minutes=1)) for number in range(1, 5)))
    await site.db.execute("ALTER TABLE AcdEvents DROP CONSTRAINT acdevents_pkey")
    await retype(site.db, "AcdEvents", type_name, "ID", "AcdEventTypesID", "AcdGroupsID")
    odd = "'x-3'" if type_name == "text" else "3.5"
    await site.db.execute(f"UPDATE AcdEvents SET ID = {odd} WHERE ID::text = '3'")
    async with site.callbacks(start_from=LONG_AGO, page=1) as (poller, sweeper):
        assert (await poller.poll()).lines == 4
        for wide in (False, True):
            assert (await sweeper.sweep(wide=wide)).lines == 0
    found = await errors(site)
    assert [found.pop(number) for number in (1, 2, 4)] == [None, None, None]
    assert list(found.values()) == [f"AcdEvents.ID {NOT_AN_ID}"]


async def test_a_text_that_the_source_cannot_give_spoils_its_own_request_only(
    site: Site, server: str
) -> None:
    dsn = await without_encoding(site.source_dsn, server)
    db = await asyncpg.connect(dsn, server_settings={"search_path": "jtelstats"})
    try:
        await add(db, *(created(number, site.now, subject="x") for number in range(1, 8)))
        await db.execute("UPDATE AcdEvents SET Subject = chr(252) WHERE ID IN (3, 6)")
    finally:
        await db.close()
    async with open_source(dsn, ("jtelstats",), BERLIN, None) as source:
        requests = CallbackSource(source.database, ("jtelstats",), None)
        feed = CallbackFeed(requests, RULES, CallbackOptions(BERLIN, empty_as_string=False))
        found = [RowRef(number, number, site.now) for number in range(1, 8)]
        lines = [line async for some in feed.new_lines(found) for line in some]
        assert {line.key.source_id for line in lines if line.error is None} == {1, 2, 4, 5, 7}
        assert {line.key.source_id for line in lines if line.error == UNREADABLE} == {3, 6}
        again = await feed.lines_by_key([line.key for line in lines])
        assert sorted(again) == sorted(lines)
