"""A Telegra installation as an operator has it: a process, a Postgres, a Salesforce."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import asyncpg
import pytest

from daemon.demo.standin import CALLBACK_PATH
from tests.support.daemon_process import PATIENCE, Daemon, running
from tests.support.telegra_centre import Acd, TelegraCentre
from tests.support.telegra_load import clients, tell_at

CALL = {"cmd": "callevent", "customerNumber": "4711", "taskid": "5F0A", "mode": "0"}
TOLD = [
    {"id": "1", "eventtype": "CallStart", "callingnumber": "+492212601599", "hotlineid": "7",
     "callednumber": "0800999", "at": "-60"},
    {"id": "2", "eventtype": "Alerting", "agentid": "100001", "groupid": "40", "at": "-55"},
    {"id": "3", "eventtype": "Connected", "agentid": "100001", "groupid": "40", "at": "-50"},
    {"id": "4", "eventtype": "CallEnd", "connected": "1", "tried": "1", "at": "0"},
]  # fmt: skip


def event(told: dict[str, str], **more: str) -> dict[str, str]:
    """A callevent, `at` so many seconds from now."""
    said = CALL | told | more
    at = datetime.now(UTC) + timedelta(seconds=float(said.pop("at", "0")))
    return said | {"eventtime": str(round(at.timestamp() * 1000))}


@asynccontextmanager
async def receiving(centre: TelegraCentre, **more: str) -> AsyncIterator[tuple[Daemon, Acd]]:
    async with (
        running(centre.settings(**more), centre.folder) as daemon,
        aiohttp.ClientSession() as session,
    ):
        await centre.listening()
        yield daemon, Acd(session, centre.port)


async def until(db: asyncpg.Connection, query: str, value: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while await db.fetchval(query) != value:
            await asyncio.sleep(0.02)


async def test_a_call_that_is_told_of_is_sent_and_shown(telegra_centre: TelegraCentre) -> None:
    centre = telegra_centre
    async with receiving(centre, settle_delay="0.2", telegra_grace="0.3") as (_, acd):
        for told, method, form in zip(
            TOLD, ("HEAD", "GET", "PUT", "PUT"), ("query", "query", "form", "json"), strict=True
        ):
            assert await acd.tell(event(told), method, form) == 200
        names = {"cmd": "agentstate", "group": "Support", "groupid": "40", "hotline": "Shop",
                 "hotlineid": "7"}  # fmt: skip
        assert await acd.tell(names) == 200
        await centre.until(delivered=1)
        (record,) = centre.salesforce.written.values()
        assert record["CallerID"] == "492212601599"
        assert (record["ServiceNumber"], record["AgentUID"]) == ("49800999", "100001")
        assert (record["nDuration"], record["CONNRES"], record["Cause"]) == (50, 1, 16)
        assert record["jtelStatisticsPartAID"] >= 4_000_000_000_000_000
        # A classification that comes late gives one more line.
        code = {"cmd": "classificationevent", "callid": "24330", "agent": "100001",
                "customerNumber": "4711", "classificationreason": "SOLD"}  # fmt: skip
        assert await acd.tell(code, "PUT", "json") == 200
        await centre.until(delivered=2)
        shown = await centre.run_json("show", "--telegra", "5f0A")
        status = (await centre.run_json("status"))["telegra"]
    assert [line["state"] for line in shown["lines"]] == ["delivered"] * 2
    assert shown["call_id"] == record["jtelStatisticsPartAID"]
    assert sorted(line["record"]["TransactionCodeExportKey"] or "" for line in shown["lines"]) == [
        "",
        "SOLD",
    ]
    assert status.keys() == {"last_notification_at", "open_calls", "waiting_codes"}
    assert (status["open_calls"], status["waiting_codes"]) == (0, 0)
    ago = datetime.now(UTC) - datetime.fromisoformat(status["last_notification_at"])
    assert timedelta(0) <= ago < timedelta(minutes=1)


async def test_nothing_that_was_answered_200_is_lost_by_a_kill(
    telegra_centre: TelegraCentre,
) -> None:
    """A second instance that stands by goes on receiving, ends the call and sends it."""
    centre = telegra_centre
    kept = []
    async with receiving(centre, telegra_grace="0.5") as (first, acd):
        second = TelegraCentre(*(getattr(centre, name) for name in centre.__match_args__[:5]))
        async with running(second.settings(telegra_grace="0.5"), centre.folder) as standby:
            await standby.until("daemon.standby")
            await second.listening()
            async with aiohttp.ClientSession() as session:
                other = Acd(session, second.port)
                kept += [await acd.tell(event(told)) for told in TOLD[:2]]
                first.process.kill()
                await first.process.wait()
                assert await centre.db.fetchval("SELECT count(*) FROM TelegraEvents") == 2
                kept += [await other.tell(event(told)) for told in TOLD]
                await centre.until(delivered=1)
    assert kept == [200] * 6
    assert await centre.db.fetchval("SELECT count(*) FROM TelegraEvents") == 4


async def test_what_is_refused_while_the_database_is_away_is_a_gap(
    telegra_centre: TelegraCentre, server: str
) -> None:
    centre = telegra_centre
    name = await centre.db.fetchval("SELECT current_database()")
    admin = await asyncpg.connect(server)
    try:
        async with receiving(centre) as (daemon, acd):
            assert await acd.tell(event(TOLD[0])) == 200
            await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
            )
            began = asyncio.get_running_loop().time()
            assert await acd.tell(event(TOLD[1])) == 503
            assert 4 < asyncio.get_running_loop().time() - began < 8
            await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            await acd.tell_until_kept(event(TOLD[1]))
            await acd.tell_until_kept(event(TOLD[3]))
            gap = await daemon.until("telegra.gap")
            assert gap["refused"] >= 1
            code, output, _ = await centre.run("status")
            shown = await centre.run_json("show", "--telegra", "5f0a")
            unknown = await centre.run_json("show", "--telegra", "abc")
    finally:
        await admin.close()
    assert code == 0
    assert "notification was refused from" in " ".join(output.split())
    assert "refused from" in shown["note"]
    assert unknown["call_id"] is None
    assert unknown["lines"] == []
    assert "abc" in unknown["note"]


async def test_what_is_refused_just_before_the_end_is_a_gap_too(
    telegra_centre: TelegraCentre,
) -> None:
    """More come at once than may wait for a table that is locked."""
    centre = telegra_centre
    async with running(centre.settings(), centre.folder) as daemon:
        await centre.listening()
        async with clients(centre.port) as opened:
            async with centre.db.transaction():
                await centre.db.execute("LOCK TABLE TelegraEvents")
                told = [asyncio.create_task(one.tell(n)) for n, one in enumerate(opened)]
                await asyncio.wait(told, return_when=asyncio.FIRST_COMPLETED)
            statuses = await asyncio.gather(*told)
        assert await daemon.stop() == 0
    refused = statuses.count(503)
    assert refused > 0
    assert await centre.db.fetchval("SELECT sum(refused) FROM gap") == refused


async def test_planned_callbacks_are_requests_of_the_other_feed(
    telegra_centre: TelegraCentre,
) -> None:
    centre = telegra_centre
    async with receiving(centre, callback_url=CALLBACK_PATH, callback_delay="0") as (_, acd):
        plan = {"cmd": "schedulecallevent", "scheduleid": "7", "callednumber": "02212601",
                "agentid": "100001", "agenttype": "ONLY_AGENT", "customerNumber": "4711",
                "nextretrystartdate": "2026-11-21 10:00", "requesttext": "please",
                "nextretryenddate": "2026-11-21 12:00"}  # fmt: skip
        for _ in range(2):
            assert await acd.tell(plan) == 200
        await centre.until(delivered=1)
        (record,) = centre.salesforce.written.values()
    assert record["CallbackNumber"] == "492212601"
    assert record["Subject"] == "Scheduled call 2026-11-21 10:00 - 2026-11-21 12:00"
    assert (record["Body"], record["TargetUsersUID"]) == ("please", "100001")
    assert record["ID"] >= 4_000_000_000_000_000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DROP TABLE TelegraCodes", "TelegraCodes missing in the source"),
        ("REVOKE INSERT ON TelegraEvents FROM receiver", "may not write TelegraEvents"),
    ],
)
async def test_run_refuses_tables_that_it_cannot_write(
    telegra_centre: TelegraCentre, change: str, said: str
) -> None:
    centre, db = telegra_centre, telegra_centre.db
    await db.execute(
        "DO $$ BEGIN CREATE ROLE receiver LOGIN; EXCEPTION WHEN duplicate_object THEN END $$"
    )
    code, script, _ = await centre.run("migrate", "--sql", "--grant-to", "receiver")
    assert code == 0
    await db.execute(script[script.index("-- The ledger's user") :])
    await db.execute(change)
    dsn = centre.dsn.replace("postgres@", "receiver@")
    code, _, errors = await centre.run("run", source_dsn=dsn)
    assert code == 78, errors
    assert said in errors
    code, output, _ = await centre.run("check", source_dsn=dsn)
    assert code == 78
    assert said in " ".join(output.split())


async def test_migrate_makes_the_tables_and_refuses_another_acds(
    telegra_centre: TelegraCentre,
) -> None:
    centre, db = telegra_centre, telegra_centre.db
    code, output, _ = await centre.run("migrate", "--telegra")
    assert (code, output.splitlines()[0]) == (
        0,
        "The ACD's 12 tables are in schema telegra already.",
    )
    fresh = {"source_schemas": "fresh", "ledger_schema": "fresh_ledger"}
    code, output, errors = await centre.run("migrate", "--telegra", **fresh)
    assert code == 0, errors
    assert output.startswith("Created in schema fresh: StatisticsPartA, ")
    assert await db.fetchval("SELECT count(*) FROM fresh.TelegraEvents") == 0
    await db.execute("CREATE SCHEMA jtel; CREATE TABLE jtel.StatisticsPartA (ID bigint)")
    other = {"source_schemas": "jtel", "ledger_schema": "jtel_ledger"}
    code, _, errors = await centre.run("migrate", "--telegra", **other)
    assert code == 78
    assert "tables of another ACD" in " ".join(errors.split())
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname IN ('jtel', 'jtel_ledger')"
    assert await db.fetchval(tables) == 1
    # The ledger is bound to the schema telegra.
    code, _, errors = await centre.run("migrate", "--telegra", source_schemas="another")
    assert code == 78
    assert "the ledger holds the lines of" in errors
    assert await db.fetchval("SELECT to_regnamespace('another') IS NULL")
    code, output, errors = await centre.run("migrate", "--telegra", "--sql")
    assert (code, output) == (2, "")
    assert "telegra_schema.sql" in "".join(errors.split())
    await db.execute("DROP TABLE telegra.TelegraCalls")
    code, _, errors = await centre.run("show", "--telegra", "5f")
    assert code == 78
    assert "TelegraCalls missing in the source" in " ".join(errors.split())


async def test_under_more_load_than_can_be_kept_nothing_that_was_kept_is_lost(
    telegra_centre: TelegraCentre,
) -> None:
    """A hundred a second are kept without a refusal; then all that can be told."""
    centre = telegra_centre
    async with running(centre.settings(telegra_grace="10"), centre.folder):
        await centre.listening()
        usual = await tell_at(centre.port, 100, 200)
        flood = await tell_at(centre.port, None, 2000)
    assert usual.statuses == {200: 200}
    assert usual.percentile(99) < 1
    assert flood.statuses.keys() <= {200, 503}
    rows = await centre.db.fetch("SELECT (Parameters ->> 'id')::bigint FROM TelegraEvents")
    assert {*usual.kept, *flood.kept} <= {row[0] for row in rows}
