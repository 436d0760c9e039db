"""The page for people, over real HTTP and a real ledger."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from daemon.database import statements
from daemon.demo.standin import Reply
from daemon.ledger.acts import Act, ActKind
from daemon.ledger.operator import OperatorStore
from daemon.ledger.store import open_ledger
from daemon.lines import FeedName, PauseReason, State
from daemon.reports import meanings
from daemon.web import wording
from tests.integration.web.test_health import free_port
from tests.support.call_centre import CallCentre
from tests.support.calls import masters, plain_call, record_id
from tests.support.daemon_process import PATIENCE, running
from tests.support.load import stretched
from tests.support.look import BERLIN, NOW, Look, get, holder, looking
from tests.support.markup import Strict
from tests.support.proxy import Mode, proxied

__all__ = ["holder"]


@pytest.fixture
async def look(dsn: str, db: asyncpg.Connection, holder: None) -> AsyncIterator[Look]:
    async with looking(dsn, db) as look:
        await look.beat()
        await db.execute("UPDATE feed SET watermark = now() - interval '2 minutes'")
        yield look


# What is served, and to whom


async def test_the_page_is_whole_without_a_line(look: Look) -> None:
    shown = await look.get()
    assert shown.status == 200
    assert "Taking calls" in shown.text
    assert "All is sent" in shown.text
    assert "Nothing waits to be sent." in shown.text
    assert "No line has failed." in shown.text
    assert "No line was settled." in shown.text
    read = Strict(shown.html)
    assert read.headings[0] == 1
    assert read.headings.count(1) == 1
    assert read.landmarks[:3] == ["header", "search", "main"]
    assert '<html lang="en">' in shown.html


@pytest.mark.parametrize(
    "path",
    ["/", "/live", "/page.css", "/page.js", "/page.svg", "/?q=1", "/lines?state=pending", "/acts"],
)
async def test_nothing_is_kept_framed_guessed_or_run_that_is_not_ours(
    look: Look, path: str
) -> None:
    shown = await look.get(path)
    assert shown.status == 200
    policy = dict(
        part.strip().split(" ", 1) for part in shown.headers["Content-Security-Policy"].split(";")
    )
    assert policy == {
        "default-src": "'none'", "style-src": "'self'", "script-src": "'self'",
        "img-src": "'self' data:", "connect-src": "'self'", "form-action": "'self'",
        "frame-ancestors": "'none'", "base-uri": "'none'",
    }  # fmt: skip
    assert shown.headers["Cache-Control"] == "no-store"
    assert shown.headers["X-Content-Type-Options"] == "nosniff"
    assert shown.headers["Referrer-Policy"] == "no-referrer"
    assert shown.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert shown.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in shown.headers


async def test_the_page_can_only_be_read(look: Look) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert (await look.get("/", method)).status == 405
    head = await look.get("/", "HEAD")
    assert (head.status, head.html) == (200, "")
    assert (await look.get("/nothing")).status == 404


async def test_a_strange_name_gets_advice_instead_of_the_page(look: Look) -> None:
    for host in ("evil.example", f"evil.example:{look.port}", "", "127.0.0.1.evil.example", "a@b"):
        for path in ("/", "/live", "/?q=1", "/page.js", "/lines?state=pending", "/acts"):
            shown = await look.get(path, Host=host)
            assert shown.status == 421
            assert f"http://127.0.0.1:{look.port}/" in shown.html
            assert shown.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    for path in ("/metrics", "/healthz"):
        assert (await look.get(path, Host="prometheus-target.example")).status == 200
    for host in ("localhost", "LOCALHOST:1", f"127.0.0.1:{look.port}", "[::1]:9464"):
        assert (await look.get("/", Host=host)).status == 200


# What it says


async def test_what_waits_and_what_failed_is_shown_with_what_to_do(look: Look) -> None:
    await look.line(1, State.PENDING, pending_since=datetime.now(UTC) - timedelta(minutes=5))
    await look.line(
        2, State.PENDING, attempts=2, last_status=423, last_error="record is locked",
        next_try_at=datetime.now(UTC) + timedelta(minutes=1),
    )  # fmt: skip
    await look.line(3, State.PENDING, backfill=True)
    await look.line(4, State.REJECTED, last_status=400, last_error="no such field")
    await look.line(5, State.NOT_FOUND, last_status=404, last_error=None)
    await look.line(6, State.CONFLICT, last_status=409)
    await look.line(7, State.EXPIRED, last_status=500)
    await look.line(8, State.INVALID, last_error="StatisticsPartA.ID is no whole number")
    for code in (1, 2, 3):
        await look.line(9, State.NOT_FOUND, last_status=404, code=code)
    await look.line(10, State.SKIPPED)
    await look.line(11, State.DELIVERED)

    text = (await look.get()).text
    assert "1 5 minutes not sent yet" in text
    assert "tried 2 times, next try" in text
    assert "its record was locked in Salesforce (423): record is locked" in text
    assert "less than a minute backfill not sent yet" in text
    assert "rejected 400: no such field Fix what the reason names" in text
    failed = ((4, "rejected"), (5, "not_found"), (6, "conflict"), (7, "expired"), (8, "invalid"))
    for call, state in failed:
        assert f"callstatsd requeue --state {state} --call-id {call}" in text
    for state in ("pending", "delivered", "skipped"):
        assert f"--state {state}" not in text
    assert "not_found 3 lines 404" in text
    assert re.search(r"Waiting to be sent 3\b", text)
    assert re.search(r"Delivered in 24 hours 1\b", text)
    assert re.search(r"Refused in 24 hours 5\b", text)
    assert re.search(r"Needs your action 3\b", text)


async def test_the_commands_that_are_shown_are_commands(centre: CallCentre) -> None:
    await plain_call(centre.db, 3, record=record_id(3))
    centre.salesforce.rule = lambda _: Reply(400, "Caller +49 (0)30 998877 is blocked")
    port = free_port()
    settings = centre.settings(http_listen=f"127.0.0.1:{port}")
    async with running(settings, centre.folder) as daemon:
        await centre.until(rejected=1)
        shown = await get(port)
        command = re.search(r"callstatsd (requeue [-a-z0-9 ]+\d)", shown.text)
        assert command is not None
        assert "Caller …77 is blocked" in shown.text
        centre.salesforce.rule = lambda _: None
        assert (await centre.run(*command[1].split()))[0] == 0
        await centre.until(delivered=1)
        found = await get(port, "/?q=3")
        assert "delivered at" in found.text
        assert "998877" not in found.html
        assert await daemon.stop() == 0


async def test_an_instance_that_stands_by_says_who_sends(centre: CallCentre) -> None:
    first, second = free_port(), free_port()
    async with running(centre.settings(http_listen=f"127.0.0.1:{first}"), centre.folder) as active:
        await active.until("daemon.started")
        behind = centre.settings(http_listen=f"127.0.0.1:{second}")
        async with running(behind, centre.folder) as standby:
            await standby.until("daemon.standby")
            text = (await get(second)).text
            who = f"The instance on {socket.gethostname()} (process {active.process.pid})"
            assert "Standing by" in text
            assert f"{who} is active" in text
            assert f"{who} is sending" in text
            assert await standby.stop() == 0
        await centre.run("pause", "--reason", "release tonight, call 030 1234567")
        await active.until("sender.paused")
        text = (await get(first)).text
        assert "Paused by an operator" in text
        assert "release tonight, call …67" in text
        assert "callstatsd resume continues sending" in text
        assert await active.stop() == 0


@pytest.mark.parametrize(
    "reason", [reason for reason in PauseReason if reason is not PauseReason.OPERATOR]
)
async def test_every_pause_is_told_with_its_remedy_and_the_next_try(
    look: Look, reason: PauseReason
) -> None:
    await look.beat(reason, 600)
    text = (await look.get()).text
    said = meanings.PAUSES[reason]
    assert said.text.replace("`", "") in text
    assert said.remedy is not None
    assert said.remedy.replace("`", "") in text
    assert re.search(r"Next try: \d\d:\d\d:\d\d|Next try: 20", text)


async def test_the_poller_says_when_it_waits_for_the_source_or_is_behind(look: Look) -> None:
    await look.db.execute("UPDATE feed SET watermark = NULL")
    assert "No poll has been made yet." in (await look.get()).text
    view = wording.PageContext(NOW, BERLIN, timedelta(minutes=2), active=True, source_away=False)
    status = await OperatorStore(look.ledger.database).status()
    behind = replace(status, watermark=NOW - timedelta(hours=3))
    assert wording.taking(behind, view).heading == "Catching up with calls"
    away = replace(view, source_away=True)
    assert wording.taking(behind, away).severity is meanings.Severity.BAD
    assert "2026-11-20" not in wording.taking(behind, away).text
    assert "10:34:56" in wording.taking(behind, away).text


async def test_the_commands_of_an_instance_name_it_and_the_page_its_listener(
    dsn: str, db: asyncpg.Connection, holder: None
) -> None:
    async with looking(dsn, db, instance="north", api_listen="[::1]:9465") as look:
        await look.beat(PauseReason.UNAUTHORIZED, 600)
        await look.line(4, State.REJECTED, settled_at=NOW, last_status=400)
        shown = (await look.get("/?q=4")).text
        assert "callstatsd requeue --instance north --state rejected --call-id 4" in shown
        assert "callstatsd show --instance north 4 shows the same" in shown
        assert "Click to dial is asked at [::1]:9465." in shown
        assert "callstatsd check --instance north requests a token" in shown
        assert not re.search(r"callstatsd (requeue|discard|check|show|resume)(?! --inst)", shown)


async def test_all_is_sent_is_not_said_beside_lines_that_need_action(look: Look) -> None:
    await look.line(4, State.REJECTED, settled_at=NOW, last_status=400)
    shown = await look.get()
    assert "All is sent" not in shown.text
    assert "Nothing is pending" in shown.text
    assert "1 line needs your action." in shown.text


# What it must not say


async def test_no_phone_number_and_no_agent_is_on_the_page(dsn: str, look: Look) -> None:
    said = "FIELD_CUSTOM_VALIDATION_EXCEPTION: +49 (0)30/998877-5 called 0035g00000LnZXkAAN"
    record = (
        '{"SalesForceID":"0035g00000LnZXkAAN","jtelStatisticsPartAID":12345678,'
        '"AgentUID":"erika.muster","bOutbound":0,"CallerID":"49309988775","ServiceNumber":'
        '"498001234567","ServiceName":"Hotline 0800 1234567","dtCallStart":"2026-11-20T09:00:00",'
        '"dtCallEnd":null}'
    )
    await look.line(
        12345678, State.REJECTED, last_status=400, last_error=said, record=record
    )  # fmt: skip
    await look.line(2, State.PENDING, attempts=1, last_status=500, last_error=said)

    for path in ("/", "/live", "/?q=12345678", "/?q=2", f"/?q={record_id(2)}"):
        html = (await look.get(path)).html
        assert "998877" not in html
        assert "1234567<" not in html
        assert "erika" not in html
        assert "called 0035g00000LnZXkAAN" in html
    found = await look.get("/?q=12345678")
    assert "CallerID …75" in found.text
    assert "ServiceNumber …67" in found.text
    assert "ServiceName Hotline …67" in found.text
    assert "AgentUID hidden" in found.text
    assert "jtelStatisticsPartAID 12345678" in found.text
    assert "dtCallStart 2026-11-20T09:00:00" in found.text
    assert "dtCallEnd empty" in found.text
    async with looking(dsn, look.db, log_personal_data=True) as other:
        found = await other.get("/?q=12345678")
        assert "AgentUID erika.muster" in found.text
        assert "CallerID …75" in found.text


async def test_what_salesforce_or_a_visitor_says_is_never_markup(look: Look) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> `</code><b>`"
    await look.line(1, State.REJECTED, last_status=400, last_error=evil)
    await look.line(2, State.PENDING, attempts=1, last_status=500, last_error=evil)
    await look.db.execute("UPDATE ledger SET held_since = now(), held_reason = $1", evil)
    await look.beat()
    for path in ("/", "/live", "/?q=1", "/?q=2", "/?q=%3Cscript%3Ealert(1)%3C/script%3E%22%27"):
        shown = await look.get(path)
        assert "<script>" not in shown.html
        assert "<img" not in shown.html
        assert "alert(1)" in shown.text or "&lt;script&gt;" in shown.html


# What must not hold it up


async def test_a_page_of_a_ledger_that_is_away_comes_quickly_with_what_is_known(
    dsn: str, db: asyncpg.Connection, holder: None
) -> None:
    await masters(db)
    await plain_call(db, 1, record=record_id(1))
    patience = stretched(0.3)
    async with (
        proxied(dsn) as (wire, ledger_dsn),
        looking(dsn, db, ledger_dsn, patience) as look,
    ):
        await wire.switch(Mode.REFUSE)
        shown = await look.get()
        assert shown.status == 200
        assert "The ledger's database cannot be used" in shown.text
        assert "cannot be used now; please try again" in (await look.get("/?q=1")).text

        await wire.switch(Mode.PASS)
        await look.line(4, State.REJECTED, last_status=400)
        async with asyncio.timeout(PATIENCE):
            while "rejected" not in (await look.get("/live")).html:
                await asyncio.sleep(0.1)

        await wire.switch(Mode.STALL)
        async with asyncio.timeout(PATIENCE):
            while "cannot be used" not in (await look.get("/live")).html:
                await asyncio.sleep(0.1)
        async with asyncio.timeout(16 * patience):
            shown = await look.get("/?q=1")
        assert "What follows is from" in shown.text
        assert "requeue --state rejected --call-id 4" in shown.text


async def test_a_source_that_is_silent_leaves_what_the_ledger_has(
    dsn: str, db: asyncpg.Connection, holder: None
) -> None:
    patience = stretched(0.3)
    async with (
        proxied(dsn) as (wire, source_dsn),
        looking(source_dsn, db, dsn, patience) as look,
    ):
        await wire.switch(Mode.STALL)
        async with open_ledger(dsn, "callstatsd") as ledger:
            look.ledger = ledger
            await look.line(4, State.REJECTED, last_status=400)
            async with asyncio.timeout(16 * patience):
                shown = await look.get("/?q=4")
    assert (
        "The source database cannot be reached, so this is only what the ledger has." in shown.text
    )
    assert "rejected at" in shown.text


async def test_many_who_look_ask_the_ledger_once(dsn: str, db: asyncpg.Connection) -> None:
    async with proxied(dsn) as (wire, ledger_dsn), looking(dsn, db, ledger_dsn) as look:
        async with asyncio.TaskGroup() as group:
            looks = [group.create_task(look.get("/live")) for _ in range(40)]
        assert {one.result().html for one in looks} == {looks[0].result().html}
        assert wire.accepted == 1


async def test_what_people_did_is_shown_and_who_only_where_people_may_be_named(
    dsn: str, db: asyncpg.Connection, look: Look
) -> None:
    operator_store = OperatorStore(look.ledger.database)
    pause = Act(ActKind.PAUSE, "alice@acd1", reason="ask +49 151 1234567")
    await operator_store.pause(pause)
    requeue = Act(ActKind.REQUEUE, "alice@acd1", (State.REJECTED,), call_id=5)
    await look.line(5, State.PENDING, act_id=await operator_store.begin(requeue), generation=1)

    for people in (False, True):
        async with looking(dsn, db, log_personal_data=people) as page:
            overview, found = (await page.get()).text, (await page.get("/?q=5")).text
        assert "callstatsd requeue --state rejected --call-id 5" in overview
        assert "0 lines so far, not finished" in overview
        assert "callstatsd pause --reason 'ask …67'" in overview
        assert "1234567" not in overview
        assert ("alice@acd1" in overview) == people
        assert ("put back by alice@acd1 at" in found) == people
        assert ("put back by an operator at" in found) != people


async def test_what_people_look_at_is_read_by_indexes(look: Look) -> None:
    """On a ledger of some size; the plans, not the time, so that a slow machine says the same."""
    await look.db.execute(
        """
        INSERT INTO line (call_id, group_id, leg_id, code_id, ordinal, lane, call_ended, backfill,
                          state, record, settled_at)
        SELECT n, 0, 0, 0, 1, n::text, now() - (60000 - n) * interval '1 minute', false,
               CASE WHEN n % 500 = 0 THEN 'rejected' ELSE 'delivered' END, repeat('x', 400),
               now() - (60000 - n) * interval '1 minute'
        FROM generate_series(1, 60000) AS n
        """
    )
    await look.db.execute("VACUUM ANALYZE line")
    since = datetime.now(UTC) - timedelta(hours=24)
    for name, index, arguments in (
        ("oldest_pending", "line_pending", (5, FeedName.STATISTICS)),
        ("latest_failed", "line_failed", (200, FeedName.STATISTICS)),
        ("settled_by_hour", "line_settled_at", (since, FeedName.STATISTICS)),
    ):
        statement = statements.load("ledger/operator.sql")[name]
        plan = "\n".join(row[0] for row in await look.db.fetch(f"EXPLAIN {statement}", *arguments))
        assert index in plan, plan
        assert "Seq Scan on line" not in plan, plan
