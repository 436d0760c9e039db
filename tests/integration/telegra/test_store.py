"""What was told is kept once, and the rows of its calls are written with it, whoever writes."""

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from daemon.telegra.notifications import Received
from daemon.telegra.store import TelegraStore
from tests.support.telegra_scripts import START, numbered, parameters_of, written_rows
from tests.support.telegra_site import (
    RULES,
    batches,
    classified,
    event,
    renumbered,
    rows_in,
    store_of,
    told,
)
from tests.unit.telegra.test_calls import CALLS

FIRST_ID = 4_000_000_000_000_000
NOW = datetime.now(UTC)


def ms(moment: datetime) -> str:
    return str(round(moment.timestamp() * 1000))


async def test_all_calls_mixed_up_and_twice_through_two_instances(
    telegra_dsn: str, telegra_db: asyncpg.Connection
) -> None:
    """Each ends with the rows of its script, and the rows' ids are those of what opened them."""
    starts: dict[int, datetime] = {}
    everything: list[Received] = []
    for number, script in enumerate(CALLS, 1):
        # Not the nights of the clock change: all others as if they were just over.
        start = NOW - timedelta(hours=number) if script.start == START else script.start
        starts[number] = start.replace(microsecond=0)
        for line, parameters in enumerate(parameters_of(replace(script, start=starts[number])), 1):
            named = {"taskid": f"{number:x}a", "callid": f"00{number:X}A"}
            own = {name: value for name, value in named.items() if name in parameters}
            own |= {"id": f"{number}{parameters['id']:0>4}"} if "id" in parameters else {}
            everything.append(told(parameters | own | {"line": str(line)}, start + timedelta(1)))
    chance = random.Random(4)
    first, second = (chance.sample(everything, len(everything)) for _ in range(2))
    async with store_of(telegra_dsn) as one, store_of(telegra_dsn) as other:

        async def tell(store: TelegraStore, notifications: list[Received]) -> int:
            new = 0
            for batch in batches(notifications, 40):
                new += len((await store.keep(batch)).new)
            return new

        kept = await asyncio.gather(tell(one, first), tell(other, second))
        await one.bind_waiting()
        await one.write_ends()
    assert sum(kept) == len(everything)
    for number, script in enumerate(CALLS, 1):
        call = await telegra_db.fetchrow(
            "SELECT StatisticsPartAID FROM TelegraCalls WHERE TaskID = $1", f"{number:x}a"
        )
        rows = await telegra_db.fetch(
            "SELECT ID, (Parameters ->> 'line')::int FROM TelegraEvents"
            " WHERE StatisticsPartAID = $1",
            call[0],
        )
        found = renumbered(await rows_in(telegra_db, call[0]), dict(map(tuple, rows)))
        assert found.call.clients_id == 4711
        expected = [line for _, line in numbered(script.rows)]
        assert written_rows(found, starts[number]) == expected, script.name
    ids = await telegra_db.fetch(
        "SELECT min(ID) FROM StatisticsPartA UNION SELECT min(ID) FROM TransactionCodes"
    )
    assert min(row[0] for row in ids) >= FIRST_ID


async def test_a_repetition_changes_nothing(
    telegra_dsn: str, telegra_db: asyncpg.Connection
) -> None:
    async with store_of(telegra_dsn) as store:
        begun = event("CallStart", 1, callingnumber="0221")
        assert (await store.keep([begun, begun])).new == {begun.fingerprint}
        other = event("CallEnd", 1, callingnumber="0999")
        assert (await store.keep([other])).new == frozenset()
    assert await telegra_db.fetchval("SELECT count(*) FROM TelegraEvents") == 1
    call = await telegra_db.fetchrow("SELECT ANumber, dtCallEnd FROM StatisticsPartA")
    assert tuple(call) == ("49221", None)


async def test_the_end_is_written_once_nothing_came_for_some_time(
    telegra_dsn: str, telegra_db: asyncpg.Connection
) -> None:
    """Also by another instance, after a restart; CallEnd may even come first."""
    end = "SELECT dtCallEnd IS NOT NULL FROM StatisticsPartA"
    rules = replace(RULES, grace=timedelta(seconds=30))
    async with store_of(telegra_dsn, rules) as store:
        await store.keep([event("CallEnd", 3, connected="1", tried="1")])
        assert await store.write_ends() == []
        assert not await telegra_db.fetchval(end)
        await telegra_db.execute("UPDATE TelegraCalls SET dtLatest = now() - interval '29 s'")
        await store.keep([event("CallStart", 1)])
        assert await store.write_ends() == []
        await telegra_db.execute("UPDATE TelegraCalls SET dtLatest = now() - interval '30 s'")
    async with store_of(telegra_dsn, rules) as store, store_of(telegra_dsn, rules) as other:
        written = [*await store.write_ends(), *await other.write_ends()]
        assert [(one.incomplete) for one in written] == [True]
        assert await telegra_db.fetchval(end)
        # Until it is settled a call is still completed, and its end stays.
        await store.keep([event("Connected", 2, agentid="100001")])
        assert await telegra_db.fetchval(end)
        assert await telegra_db.fetchval("SELECT count(*) FROM StatisticsPartB") == 1


async def test_what_comes_after_a_call_is_settled_changes_no_row(
    telegra_dsn: str, telegra_db: asyncpg.Connection
) -> None:
    """But classifications, which give one more row each, also where nothing else is left."""
    long_ago = ms(NOW - timedelta(minutes=10))
    rules = replace(RULES, settle_delay=timedelta(minutes=5))
    async with store_of(telegra_dsn, rules) as store:
        await store.keep(
            [
                event("CallStart", 1, eventtime=long_ago),
                event("Connected", 2, eventtime=long_ago, agentid="100001", groupid="40"),
                event("CallEnd", 3, eventtime=long_ago),
            ]
        )
        (call_id,) = await telegra_db.fetchrow("SELECT ID FROM StatisticsPartA")
        before = await rows_in(telegra_db, call_id)
        late = (await store.keep([event("ForwardNumber", 4, eventtime=long_ago)])).late
        assert [(one.call_id, one.command) for one in late] == [(call_id, "callevent")]
        assert await rows_in(telegra_db, call_id) == before
        await store.keep([classified("5F", "SOLD")])
        await telegra_db.execute("DELETE FROM TelegraEvents")
        await store.keep([classified("05f", "MAIL"), event("Busy", 5)])
        after = await rows_in(telegra_db, call_id)
    assert after._replace(codes=()) == before._replace(codes=())
    leg = before.legs[0]
    assert [(code.reason, code.leg_id, code.visit_id) for code in after.codes] == [
        ("SOLD", leg.id, leg.visit_id),
        ("MAIL", leg.id, leg.visit_id),
    ]


@pytest.mark.parametrize("call_id", ["24330", "5f0a", "0005F0A"])
async def test_a_classification_waits_for_its_call(
    telegra_dsn: str, telegra_db: asyncpg.Connection, call_id: str
) -> None:
    waiting = "SELECT count(*) FROM TelegraEvents WHERE StatisticsPartAID IS NULL"
    async with store_of(telegra_dsn) as store:
        await store.keep(
            [classified(call_id, "SOLD"), classified(call_id, "OTHER", customernumber="9")]
        )
        await store.keep([event("CallStart", 1, task="5f0b")])
        assert await telegra_db.fetchval(waiting) == 2
        await store.keep([event("CallStart", 2, task="5f0a")])
        assert await telegra_db.fetchval(waiting) == 1
    codes = await telegra_db.fetch(
        "SELECT c.TaskID, x.ExportKey FROM AcdStatisticsTransactionCodes AS t"
        " JOIN TelegraCalls AS c USING (StatisticsPartAID)"
        " JOIN TransactionCodes AS x ON x.ID = t.TransactionCodesID"
    )
    assert [tuple(code) for code in codes] == [("5f0a", "SOLD")]


async def test_a_classification_waits_no_longer_than_lookback(
    telegra_dsn: str, telegra_db: asyncpg.Connection
) -> None:
    async with store_of(telegra_dsn, replace(RULES, lookback=timedelta(hours=1))) as store:
        await store.keep([classified("5f", "SOLD")])
        await telegra_db.execute("UPDATE TelegraEvents SET dtReceived = now() - interval '61 min'")
        await store.keep([event("CallStart", 1)])
        await store.bind_waiting()
    assert not await telegra_db.fetchval("SELECT count(*) FROM AcdStatisticsTransactionCodes")


async def test_what_two_instances_committed_at_once_is_bound_later(
    telegra_dsn: str, telegra_db: asyncpg.Connection
) -> None:
    async with store_of(telegra_dsn) as store:
        await store.keep([event("CallStart", 1), event("Connected", 2, agentid="100001")])
        await store.keep([classified("77", "SOLD")])
        # As it would be, had neither transaction seen the other.
        await telegra_db.execute(
            "UPDATE TelegraEvents SET CodeKeys = '{5f}' WHERE CodeKeys <> '{}'"
        )
        await store.bind_waiting()
        await store.bind_waiting()
    assert await telegra_db.fetchval("SELECT count(*) FROM AcdStatisticsTransactionCodes") == 1


async def test_rows_of_administrators_stay_as_they_are(
    telegra_dsn: str, telegra_db: asyncpg.Connection
) -> None:
    begun = event("Connected", 1, agentid="100001", groupid="40", hotlineid="7", mode="0")
    names = told(
        {"cmd": "agentstate", "group": "Support", "groupid": "40", "hotline": "Shop",
         "hotlineid": "7", "mandator": "Campaign", "mandatorid": "3"}
    )  # fmt: skip
    async with store_of(telegra_dsn) as store:
        await store.keep([begun])
        await telegra_db.execute("UPDATE Users SET UID = 'anna'")
        await telegra_db.execute("UPDATE ServiceNumbers SET Name2 = 'Laden'")
        await store.keep([names])
        await store.keep([event("Alerting", 2, task="6", hotlineid="7", callednumber="0800")])
        await store.keep([classified("5f", "SOLD")])
        await telegra_db.execute("UPDATE TransactionCodes SET ExportKey = 'VERKAUFT'")
    async with store_of(telegra_dsn) as restarted:
        more = event("Connected", 3, agentid="100001", hotlineid="7", callednumber="0900")
        await restarted.keep([more, told(names.parameters | {"hotline": "Renamed"})])
        await restarted.keep([classified("5f", "SOLD", agent="100002")])
    found = [
        [tuple(row) for row in await telegra_db.fetch(f"SELECT * FROM {table} ORDER BY ID")]
        for table in ("Users", "AcdGroups", "ServiceNumbers")
    ]
    assert found == [
        [(100001, "anna", None), (100002, "100002", None)],
        [(40, "Support", None)],
        [(-3, None, "Campaign"), (7, "49800", "Laden")],
    ]
    codes = await telegra_db.fetch("SELECT ExportKey FROM TransactionCodes")
    assert [code[0] for code in codes] == ["VERKAUFT"]


async def test_planned_callbacks_become_events_of_type_3(
    telegra_dsn: str, telegra_db: asyncpg.Connection
) -> None:
    plan = {
        "cmd": "schedulecallevent", "customernumber": "4711", "scheduleid": "7",
        "callednumber": "+4922155", "agentid": "100001", "agenttype": "ONLY_AGENT",
        "requesttext": "0D5D0000000XZoHKAW", "nextretrystartdate": "2026-11-21 10:00",
        "nextretryenddate": "2026-11-21 12:00",
    }  # fmt: skip
    async with store_of(telegra_dsn) as store:
        await store.keep([told(plan)])
        await store.keep([told(plan | {"callednumber": "0999"})])
        await store.keep([told(plan | {"scheduleid": "8", "agenttype": "EVERYONE"})])
    rows = await telegra_db.fetch(
        "SELECT ClientsID, AcdEventTypesID, UsersID, CreatingUsersID, Sender, Subject, EventData,"
        " UserData, ID >= 4e15 FROM AcdEvents ORDER BY ID"
    )
    first = (
        4711, 3, 100001, 100001, "4922155", "Scheduled call 2026-11-21 10:00 - 2026-11-21 12:00",
        "0D5D0000000XZoHKAW", "0D5D0000000XZoHKAW", True,
    )  # fmt: skip
    assert [tuple(row) for row in rows] == [first, (*first[:2], None, *first[3:])]


async def test_pruning_keeps_what_may_still_change(
    telegra_dsn: str, telegra_db: asyncpg.Connection
) -> None:
    old, day = ms(NOW - timedelta(days=20)), timedelta(days=1)
    rules = replace(RULES, settle_delay=timedelta(minutes=2), lookback=day)
    events = "SELECT count(*) FROM TelegraEvents"
    async with store_of(telegra_dsn, rules) as store:
        await store.keep([event("CallStart", 1, task="a", eventtime=old)])
        await store.keep(
            [
                event("CallStart", 2, task="b", eventtime=old),
                event("Connected", 3, task="b", eventtime=old, agentid="1", groupid="4"),
                event("CallEnd", 4, task="b", eventtime=old),
                classified("b", "SOLD", timestamp=old),
                classified("ffff", "WAITS"),
                told({"cmd": "agentstate", "taskid": "c", "requesttext": "0D5D0000000XZoHKAW"}),
            ]
        )
        assert await store.prune(90 * day, 1000) == 0
        await telegra_db.execute("UPDATE TelegraEvents SET dtReceived = now() - interval '8 days'")
        assert await store.prune(90 * day, 1) == 1
        assert await store.prune(90 * day, 1000) == 5
        # Of the open call all is needed, until it is as old as rows get.
        assert await telegra_db.fetchval(events) == 1
        await telegra_db.execute("UPDATE TelegraCalls SET dtLatest = now() - interval '91 days'")
        assert await store.prune(90 * day, 1000) == 3
        # What comes now of such a call is another one.
        await store.keep([event("CallEnd", 5, task="b")])
    assert await telegra_db.fetchval(events) == 1
    for table, rows in (("StatisticsPartA", 1), ("StatisticsPartB", 0), ("AcdStatisticsPartB", 0),
                        ("AcdStatisticsTransactionCodes", 0), ("TelegraCalls", 1)):  # fmt: skip
        assert await telegra_db.fetchval(f"SELECT count(*) FROM {table}") == rows, table


async def test_texts_that_no_index_holds_are_codes_too(
    telegra_dsn: str, telegra_db: asyncpg.Connection
) -> None:
    chance = random.Random(1)
    category, reason = (
        "".join(chr(chance.randrange(0x4E00, 0x9000)) for _ in range(2000)) for _ in range(2)
    )
    async with store_of(telegra_dsn) as store:
        code = classified("5f", reason, classificationcategoryid=category)
        await store.keep([code, classified("5f", reason)])
        await store.keep([event("CallStart", 1)])
        await store.keep([classified("5f", reason, classificationcategoryid=category, n="2")])
        call_id = await telegra_db.fetchval("SELECT ID FROM StatisticsPartA")
        codes = (await rows_in(telegra_db, call_id)).codes
    assert [(each.category, each.reason) for each in codes] == [
        (category, reason),
        ("", reason),
        (category, reason),
    ]


async def test_within_a_batch_the_order_is_that_of_receipt_and_the_better_key_counts(
    telegra_dsn: str, telegra_db: asyncpg.Connection
) -> None:
    at, tasks = ms(NOW), [str(number) for number in range(24330, 24342)]
    async with store_of(telegra_dsn) as store:
        await store.keep([classified(task, "SOLD") for task in tasks])
        for task in tasks:
            called = {"cmd": "callevent", "customernumber": "4711", "eventtime": at,
                      "agentid": "5"}  # fmt: skip
            await store.keep(
                [
                    told(called | {"taskid": f"{int(task):x}", "eventtype": "CallStart"}),
                    told(called | {"taskid": task, "eventtype": "Connected"}),
                    told(called | {"taskid": task, "eventtype": "Working"}),
                ]
            )
    legs = await telegra_db.fetch("SELECT CONNRES FROM StatisticsPartB")
    assert [leg[0] for leg in legs] == [1] * len(tasks)
    codes = await telegra_db.fetch(
        "SELECT call.TaskID FROM AcdStatisticsTransactionCodes AS code"
        " JOIN TelegraCalls AS call USING (StatisticsPartAID) ORDER BY call.TaskID"
    )
    assert [code[0] for code in codes] == tasks


async def test_without_grace_an_incomplete_end_is_told_of(
    telegra_dsn: str, telegra_db: asyncpg.Connection
) -> None:
    async with store_of(telegra_dsn) as store:
        await store.keep([event("CallStart", 1), event("CallEnd", 2, connected="1")])
        assert [call.incomplete for call in await store.write_ends()] == [True]
        assert await store.write_ends() == []
    assert await telegra_db.fetchval("SELECT dtCallEnd IS NOT NULL FROM StatisticsPartA")
