"""`callstatsd run` as an operator has it: a process, signals, a Postgres, a Salesforce."""

import asyncio
import json
import signal
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from daemon.demo import grants, standin
from daemon.demo.postgres import create_database, embedded
from daemon.demo.standin import Incoming, Reply, StandIn, serve
from tests.support import calls
from tests.support.call_centre import CallCentre
from tests.support.calls import long_id, plain_call, record_id, seed_003
from tests.support.daemon_process import PATIENCE, command, running
from tests.support.load import stretched

CALLER = "4930998877"


async def test_the_call_of_the_vendors_table_arrives_as_its_five_records(
    centre: CallCentre,
) -> None:
    await seed_003(centre.db, start=datetime(2026, 11, 20, 9, 0, 0, 123000, UTC), record=long_id(7))

    async with running(centre.settings(), centre.folder) as daemon:
        await centre.until(delivered=5)
        assert await daemon.stop() == 0

    first, second, third, fourth, fifth = centre.salesforce.requests
    assert [request.key for request in centre.salesforce.requests] == [
        "1201-2201-3201-0",
        "1201-2201-3202-0",
        "1201-2202-3203-4201",
        "1201-2202-3204-4202",
        "1201-2202-3204-4203",
    ]
    assert first.body.decode() == (
        '{"SalesForceID":"' + long_id(7) + '","jtelStatisticsPartAID":1201,'
        '"AgentUID":"agent.w","bOutbound":0,"CallerID":"49301234567",'
        '"ServiceNumber":"498001234567","ServiceName":"Sales hotline",'
        '"AcdAgentGroupsName":"Sales","AcdConfigurationGroupsName":"Sales",'
        '"dtCallStart":"2026-11-20T10:00:05","dtCallAlert":"2026-11-20T10:00:06",'
        '"dtCallConnect":null,"dtCallEnd":"2026-11-20T10:00:20","nDuration":-1,'
        '"CONNRES":2,"Cause":19,"TransactionCodeExportKey":null}'
    )
    common = first.record
    assert second.record == common | {
        "AgentUID": "agent.x",
        "dtCallStart": "2026-11-20T10:00:25",
        "dtCallAlert": "2026-11-20T10:00:26",
        "dtCallEnd": "2026-11-20T10:00:30",
        "CONNRES": 4,
        "Cause": 21,
    }
    with_y = common | {
        "AgentUID": "agent.y",
        "AcdAgentGroupsName": "Service",
        "AcdConfigurationGroupsName": "Service",
        "dtCallStart": "2026-11-20T10:01:05",
        "dtCallAlert": "2026-11-20T10:01:06",
        "dtCallConnect": "2026-11-20T10:01:10",
        "dtCallEnd": "2026-11-20T10:04:10",
        "nDuration": 180,
        "CONNRES": 1,
        "Cause": 16,
        "TransactionCodeExportKey": "AAA",
    }
    assert third.record == with_y
    with_z = with_y | {
        "AgentUID": "agent.z",
        "dtCallStart": "2026-11-20T10:04:20",
        "dtCallAlert": None,
        "dtCallConnect": "2026-11-20T10:04:25",
        "dtCallEnd": "2026-11-20T10:06:40",
        "nDuration": 135,
        "TransactionCodeExportKey": "BBB",
    }
    assert fourth.record == with_z
    assert fifth.record == with_z | {"TransactionCodeExportKey": "CCC"}
    assert first.headers["Idempotency-Key"] == "1201-2201-3201-0"


async def test_calls_that_end_while_it_runs_are_delivered_too(centre: CallCentre) -> None:
    async with running(centre.settings(), centre.folder) as daemon:
        await daemon.until("daemon.started")
        await plain_call(centre.db, 1, record=record_id(1), ended=datetime.now(UTC))
        delivered = await daemon.until("line.delivered")
        assert await daemon.stop() == 0

    assert delivered["key"] == "1-0-0-0"
    assert delivered["call_id"] == 1
    assert delivered["salesforce_id"] == record_id(1)
    assert delivered["status"] == 200
    assert delivered["attempt"] == 1
    assert set(delivered) == {
        "event", "level", "timestamp", "key", "call_id", "salesforce_id", "status", "attempt",
        "seconds",
    }  # fmt: skip
    assert [event["event"] for event in daemon.events if event["level"] != "debug"] == [
        "daemon.started",
        "poll.taken",
        "token.refreshed",
        "line.delivered",
        "daemon.stopping",
        "daemon.stopped",
    ]


async def test_each_answer_settles_its_line(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    await plain_call(centre.db, 2, record=record_id(2)[:12] + "409")
    await plain_call(centre.db, 3, record=record_id(3)[:12] + "404")
    await plain_call(centre.db, 4, record=None)
    await plain_call(centre.db, 5, record="no id")
    centre.salesforce.rule = lambda incoming: (
        Reply(418, "teapot") if incoming.key == "6-0-0-0" else None
    )
    await plain_call(centre.db, 6, record=record_id(6))

    async with running(centre.settings(), centre.folder) as daemon:
        await centre.until(delivered=1, conflict=1, not_found=1, rejected=1, skipped=2)
        assert await daemon.stop() == 0

    assert len(centre.salesforce.requests) == 4
    code, output, _ = await command(
        "status", "--json", environment=centre.settings(), folder=centre.folder
    )
    status = json.loads(output)
    assert code == 0
    assert list(status) == [
        "lines", "oldest_pending_seconds", "watermark", "last_delivered_at", "sender",
        "callbacks",
        "alert", "telegra",
    ]  # fmt: skip
    assert status["lines"] == {
        "pending": 0, "delivered": 1, "conflict": 1, "not_found": 1, "rejected": 1, "expired": 0,
        "invalid": 0, "skipped": 2,
    }  # fmt: skip
    assert status["oldest_pending_seconds"] is None
    assert status["sender"] == {"state": "stopped", "reason": None, "retry_at": None}


async def test_a_locked_record_holds_back_its_own_lines_only(centre: CallCentre) -> None:
    ended = datetime.now(UTC) - timedelta(minutes=10)
    for number in range(1, 4):
        await plain_call(
            centre.db, number, record=record_id(1), ended=ended + timedelta(seconds=number)
        )
    await plain_call(centre.db, 9, record=record_id(2), ended=ended + timedelta(seconds=9))
    locks = {"1-0-0-0": 2}

    def lock_twice(incoming: Incoming) -> Reply | None:
        if locks.get(incoming.key, 0) > 0:
            locks[incoming.key] -= 1
            return Reply(423)
        return None

    centre.salesforce.rule = lock_twice
    async with running(centre.settings(), centre.folder) as daemon:
        await centre.until(delivered=4)
        assert await daemon.stop() == 0

    keys = [request.key for request in centre.salesforce.requests]
    assert keys.index("9-0-0-0") < len(keys) - 1
    assert [key for key in keys if key != "9-0-0-0"] == [
        "1-0-0-0", "1-0-0-0", "1-0-0-0", "2-0-0-0", "3-0-0-0",
    ]  # fmt: skip
    locked = daemon.seen("line.locked")
    assert [event["attempt"] for event in locked] == [1, 2]
    assert all(event["status"] == 423 and event["retry_in"] > 0 for event in locked)


async def test_a_lock_outlives_a_restart(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    centre.salesforce.rule = lambda _: Reply(423, headers={"Retry-After": "2"})
    async with running(centre.settings(), centre.folder) as daemon:
        await daemon.until("line.locked")
        assert await daemon.stop() == 0
    centre.salesforce.rule = None
    locked_until = await centre.db.fetchval("SELECT until FROM lane")
    await plain_call(centre.db, 2, record=long_id(1))

    async with running(centre.settings(), centre.folder) as daemon:
        await centre.until(delivered=2)
        assert await daemon.stop() == 0

    assert [request.key for request in centre.salesforce.requests] == ["1-0-0-0"] * 2 + ["2-0-0-0"]
    first_after = await centre.db.fetchval("SELECT min(settled_at) FROM line")
    assert first_after >= locked_until


async def test_a_failing_line_waits_alone(centre: CallCentre) -> None:
    ended = datetime.now(UTC) - timedelta(minutes=10)
    await plain_call(centre.db, 1, record=record_id(1), ended=ended)
    await plain_call(centre.db, 2, record=record_id(1), ended=ended + timedelta(seconds=1))
    fails = [Reply(500, "a trigger failed")]
    centre.salesforce.rule = lambda incoming: (
        fails.pop() if incoming.key == "1-0-0-0" and fails else None
    )

    async with running(centre.settings(retry_initial="0.3"), centre.folder) as daemon:
        await centre.until(delivered=2)
        assert await daemon.stop() == 0

    assert [request.key for request in centre.salesforce.requests] == [
        "1-0-0-0", "2-0-0-0", "1-0-0-0",
    ]  # fmt: skip
    retried = daemon.seen("line.retried")
    assert [(event["status"], event["attempt"]) for event in retried] == [(500, 1)]


async def test_what_fails_for_too_long_expires_and_is_kept(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    centre.salesforce.rule = lambda _: Reply(423)

    async with running(centre.settings(retry_for="1", retry_max="1"), centre.folder) as daemon:
        expired = await daemon.until("line.expired")
        assert await daemon.stop() == 0

    assert expired["attempt"] == len(centre.salesforce.requests) >= 3
    row = await centre.db.fetchrow("SELECT * FROM line")
    assert row["state"] == "expired"
    assert row["settled_at"] is not None
    assert row["record"]


async def test_while_nobody_listens_the_sender_pauses_once_and_loses_no_attempt(
    centre: CallCentre,
) -> None:
    async with serve(StandIn()) as closed:
        pass
    for number in range(1, 9):
        await plain_call(centre.db, number, record=record_id(number))
    port = int(closed.rsplit(":", 1)[1])
    endpoint = f"{closed}{standin.WRITE_PATH}"

    environment = centre.settings(endpoint_url=endpoint, retry_max="1")
    async with running(environment, centre.folder) as daemon:
        paused = await daemon.until("sender.paused")
        await daemon.until("sender.still_paused", 2)
        _, output, _ = await command(
            "status", "--json", environment=environment, folder=centre.folder
        )
        async with serve(centre.salesforce, port):
            centre.salesforce.require_token = False
            await daemon.until("sender.resumed")
            await centre.until(delivered=8)
        assert await daemon.stop() == 0

    assert paused["reason"] == "unavailable"
    assert json.loads(output)["sender"]["state"] in {"paused", "sending"}
    assert len(daemon.seen("sender.paused")) == 1
    assert await centre.db.fetchval("SELECT max(attempts) FROM line") == 1


async def test_a_stop_finishes_what_is_in_flight_and_starts_nothing_more(
    centre: CallCentre,
) -> None:
    for number in range(1, 11):
        await plain_call(centre.db, number, record=record_id(number))
    answer = asyncio.Event()
    centre.salesforce.rule = lambda _: Reply(hold=answer)

    async with running(centre.settings(concurrency="2"), centre.folder) as daemon:
        async with asyncio.timeout(PATIENCE):
            await centre.salesforce.until(lambda salesforce: salesforce.in_flight == 2)
        daemon.signal(signal.SIGTERM)
        await daemon.until("daemon.stopping")
        answer.set()
        assert await daemon.ended() == 0

    assert centre.salesforce.received == 2
    assert await centre.states() == Counter(delivered=2, pending=8)


async def test_a_second_signal_stops_at_once(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    centre.salesforce.rule = lambda _: Reply(hold=asyncio.Event())

    async with running(centre.settings(), centre.folder) as daemon:
        async with asyncio.timeout(PATIENCE):
            await centre.salesforce.until(lambda salesforce: salesforce.in_flight == 1)
        daemon.signal(signal.SIGINT)
        await daemon.until("daemon.stopping")
        daemon.signal(signal.SIGTERM)
        async with asyncio.timeout(stretched(5)):
            assert await daemon.ended() == 1

    row = await centre.db.fetchrow("SELECT state, unanswered FROM line")
    assert tuple(row) == ("pending", 1)
    assert "Traceback" not in daemon.text


async def test_a_second_instance_stands_by_and_takes_over_after_a_kill(centre: CallCentre) -> None:
    async with running(centre.settings(), centre.folder) as first:
        await first.until("daemon.started")
        async with running(centre.settings(), centre.folder) as second:
            await second.until("daemon.standby")
            first.signal(signal.SIGKILL)
            await first.ended()
            async with asyncio.timeout(stretched(5)):
                await second.until("daemon.started")
            await plain_call(centre.db, 1, record=record_id(1))
            await centre.until(delivered=1)
            assert await second.stop() == 0


async def test_a_kill_loses_nothing_and_repeats_only_what_was_in_flight(centre: CallCentre) -> None:
    total, concurrency = 400, 8
    for number in range(1, total + 1):
        await plain_call(centre.db, number, record=record_id(number % 90))
    centre.salesforce.work = 0.002
    environment = centre.settings(concurrency=str(concurrency))

    for share in (3, 2):
        async with running(environment, centre.folder) as daemon:
            async with asyncio.timeout(PATIENCE):
                await centre.salesforce.until(
                    lambda salesforce, enough=total // share: len(salesforce.known) >= enough  # type: ignore[misc]
                )
            daemon.signal(signal.SIGKILL)
            await daemon.ended()
    async with asyncio.timeout(PATIENCE):
        # What was in flight still holds its records; the next daemon must not meet them.
        await centre.salesforce.until(lambda salesforce: salesforce.in_flight == 0)
    async with running(environment, centre.folder) as daemon:
        await centre.until(delivered=total)
        assert await daemon.stop() == 0

    assert len(centre.salesforce.known) == total
    assert centre.salesforce.repeated <= 2 * (concurrency + 64)


async def test_source_and_ledger_may_be_two_servers(centre: CallCentre, tmp_path: Path) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    with embedded(tmp_path / "other") as other:
        ledger_dsn = await create_database(other, "ledger")
        environment = centre.settings(ledger_dsn=ledger_dsn)
        code, *_ = await command("migrate", environment=environment, folder=centre.folder)
        assert code == 0
        async with running(environment, centre.folder) as daemon:
            await daemon.until("line.delivered")
            assert await daemon.stop() == 0
    assert await centre.states() == Counter()


async def test_databases_that_are_away_are_waited_for(
    centre: CallCentre, tmp_path: Path, server: str
) -> None:
    ledger_folder = tmp_path / "ledger"
    with embedded(ledger_folder) as ledger_dsn:
        environment = centre.settings(ledger_dsn=ledger_dsn)
        await command("migrate", environment=environment, folder=centre.folder)

    async with running(environment, centre.folder) as daemon:
        await daemon.until("database.lost", database="ledger")
        with embedded(ledger_folder):
            await daemon.until("database.back", database="ledger")
            await plain_call(centre.db, 1, record=record_id(1))
            await daemon.until("line.delivered", key="1-0-0-0")
        await daemon.until("database.lost", 2, database="ledger")
        await plain_call(centre.db, 2, record=record_id(2))
        with embedded(ledger_folder):
            await daemon.until("line.delivered", key="2-0-0-0")
            assert await daemon.stop() == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("DROP SCHEMA callstatsd CASCADE", "does not exist yet: run `callstatsd migrate`"),
        ("UPDATE alembic_version SET version_num = '0000'", "run `callstatsd migrate`"),
        ("UPDATE alembic_version SET version_num = '9999'", "newer than this program"),
        ("UPDATE ledger SET clients_id = 7", "holds the lines of client 7"),
        ("ALTER TABLE StatisticsPartB DROP COLUMN CONNRES", "StatisticsPartB.CONNRES is missing"),
    ],
)
async def test_it_refuses_a_ledger_or_source_that_is_not_its_own(
    centre: CallCentre, change: str, says: str
) -> None:
    await centre.db.execute(change)

    async with running(centre.settings(), centre.folder) as daemon:
        assert await daemon.ended() == 78

    assert says in daemon.text
    assert "Traceback" not in daemon.text


async def test_no_phone_number_and_no_secret_is_logged_unless_asked(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    await plain_call(centre.db, 2, record=record_id(2)[:12] + "404")
    await centre.db.execute(
        "ALTER TABLE StatisticsPartA ALTER bOutbound TYPE smallint USING bOutbound::int::smallint"
    )
    await plain_call_with_flag(centre.db, 3, flag=7)

    async with running(centre.settings(), centre.folder) as daemon:
        await centre.until(delivered=1, not_found=1, invalid=1)
        assert await daemon.stop() == 0
    assert CALLER not in daemon.text
    assert grants.CLIENT_SECRET not in daemon.text
    assert not any(token in daemon.text for token in centre.salesforce.tokens)
    invalid = daemon.seen("line.invalid")[0]
    assert "StatisticsPartA.bOutbound" in invalid["error"]

    await plain_call_with_flag(centre.db, 4, flag=0)
    async with running(centre.settings(log_personal_data="true"), centre.folder) as daemon:
        delivered = await daemon.until("line.delivered")
        assert await daemon.stop() == 0
    assert CALLER in delivered["record"]


async def plain_call_with_flag(db: asyncpg.Connection, call: int, *, flag: int) -> None:
    ended = datetime.now(UTC)
    await calls.insert(
        db, "StatisticsPartA", ID=call, ClientsID=1, bOutbound=flag, ANumber=CALLER,
        dtCallStart=ended, dtCallEnd=ended, UserData=record_id(call),
    )  # fmt: skip
