"""`show`, `requeue`, `discard`, `pause`, `resume`, `check`: the questions people ask."""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from daemon.demo.standin import Reply
from daemon.ingest.source import open_source
from daemon.ingest.statistics import StatisticsFeed
from daemon.ledger.acts import Act, ActKind
from daemon.ledger.operator import OperatorStore
from daemon.ledger.store import open_ledger
from daemon.lines import LineKey, State
from tests.support.call_centre import CallCentre
from tests.support.calls import insert, plain_call, record_id, seed_003
from tests.support.daemon_process import PATIENCE, running
from tests.support.expected import BERLIN
from tests.support.site import RULES, SENDING

ENDED = datetime(2026, 11, 20, 9, tzinfo=UTC)


async def deliver(centre: CallCentre, **states: int) -> None:
    """Let a daemon run until the ledger has these states."""
    async with running(centre.settings(), centre.folder) as daemon:
        await centre.until(**states)
        assert await daemon.stop() == 0


async def test_show_tells_every_line_of_a_call_as_it_was_sent(centre: CallCentre) -> None:
    await seed_003(centre.db, start=ENDED, record=record_id(7))
    await deliver(centre, delivered=5)

    told = await centre.run_json("show", "1201")
    code, text, _ = await centre.run("show", "1201")

    assert list(told) == ["call_id", "lines", "note"]
    assert told["call_id"] == 1201
    assert [line["key"] for line in told["lines"]] == [
        "1201-2201-3201-0",
        "1201-2201-3202-0",
        "1201-2202-3203-4201",
        "1201-2202-3204-4202",
        "1201-2202-3204-4203",
    ]
    first = told["lines"][0]
    assert list(first) == [
        "key", "state", "attempts", "unanswered", "last_status", "last_error", "taken_at",
        "next_try_at", "settled_at", "record",
    ]  # fmt: skip
    assert (first["state"], first["attempts"], first["last_status"]) == ("delivered", 1, 200)
    assert datetime.fromisoformat(first["settled_at"]).tzinfo is not None
    assert first["record"] == centre.salesforce.requests[0].record
    assert code == 0
    assert "2 group visits, 4 attempts and 3 transaction codes" in text
    assert "delivered at 2026-" in text
    assert "Salesforce has it" in text

    by_record = await centre.run_json("show", "--salesforce-id", centre.salesforce.requests[0].lane)
    assert [call["call_id"] for call in by_record] == [1201]


@pytest.mark.parametrize(
    ("change", "more", "says"),
    [
        ("DELETE FROM StatisticsPartA", {}, "not in the source's StatisticsPartA"),
        ("UPDATE StatisticsPartA SET dtCallEnd = NULL, dtCallStart = now()", {}, "no end yet"),
        ("UPDATE StatisticsPartA SET dtCallEnd = now()", {"settle_delay": "600"}, "settle delay"),
        (
            "UPDATE feed SET start_from = '2026-11-20 10:00Z', watermark = now()",
            {},
            "only `callstatsd backfill` takes it",
        ),
        (
            "UPDATE feed SET start_from = '2020-01-01', watermark = now()",
            {},
            "no daemon is running",
        ),
        ("UPDATE ledger SET clients_id = 7", {"clients_id": "7"}, "It belongs to client 1"),
        ("SELECT 1", {}, "No call has ever been taken"),
    ],
)
async def test_show_says_why_a_call_has_no_line(
    centre: CallCentre, change: str, more: dict[str, str], says: str
) -> None:
    await plain_call(centre.db, 1, record=record_id(1), ended=ENDED)
    await centre.db.execute(change)
    told = await centre.run_json("show", "1", **more)
    assert told["lines"] == []
    assert says in told["note"]


async def test_of_a_call_with_thousands_of_lines_people_are_shown_the_first(
    centre: CallCentre,
) -> None:
    await centre.db.execute(
        "INSERT INTO line (call_id, group_id, leg_id, code_id, ordinal, lane, call_ended, backfill,"
        " state, record) SELECT 1, 0, n, 0, n, '1-0-' || n, now(), false, 'pending', '{}'"
        " FROM generate_series(1, 10000) AS n"
    )
    _, text, _ = await centre.run("show", "1")
    assert "1-0-200-0" in text
    assert "1-0-201-0" not in text
    assert "These are the first 200 lines of 10,000; 9,800 are not shown." in text
    told = await centre.run_json("show", "1")
    assert len(told["lines"]) == 10_000
    assert told["lines"][-1]["record"] == {}


async def test_show_names_some_of_the_lines_that_are_not_taken_yet(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    await centre.db.execute(
        "INSERT INTO StatisticsPartB (ID, StatisticsPartAID) SELECT n, 1"
        " FROM generate_series(1, 300) AS n"
    )
    await centre.db.execute(
        "INSERT INTO line (call_id, group_id, leg_id, code_id, ordinal, lane, call_ended, backfill,"
        " state, record) VALUES (1, 0, 1, 0, 1, '1-0-1-0', now(), false, 'pending', '{}')"
    )
    _, text, _ = await centre.run("show", "1")
    assert "299 of its 300 lines are not taken yet: 1-0-2-0, 1-0-3-0" in text
    assert "1-0-21-0 and 279 more." in text


async def test_show_explains_what_is_pending_unanswered_or_skipped(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1), ended=ENDED)
    await plain_call(centre.db, 2, record=None, ended=ENDED)
    conflicts = [Reply(cut="after"), Reply(409)]
    centre.salesforce.rule = lambda _: conflicts.pop(0) if conflicts else None
    await deliver(centre, conflict=1, skipped=1)

    _, text, _ = await centre.run("show", "1")
    assert "Sent 2 times, 1 of them unanswered, so it was probably written the first time" in text
    _, text, _ = await centre.run("show", "2")
    assert "no Salesforce id in the code's or the call's UserData" in text


async def test_after_a_kill_show_says_that_pending_lines_may_have_arrived(
    centre: CallCentre,
) -> None:
    await plain_call(centre.db, 1, record=record_id(1), ended=ENDED)
    centre.salesforce.rule = lambda _: Reply(hold=asyncio.Event())
    async with running(centre.settings(), centre.folder) as daemon:
        async with asyncio.timeout(PATIENCE):
            await centre.salesforce.until(lambda salesforce: salesforce.in_flight == 1)
        daemon.process.kill()
        await daemon.ended()

    told = await centre.run_json("show", "1")
    assert told["lines"][0]["state"] == "pending"
    assert "may have arrived" in told["note"]


async def test_requeue_sends_settled_lines_again_as_they_were(centre: CallCentre) -> None:
    for number in (1, 2):
        await plain_call(centre.db, number, record=record_id(number), ended=ENDED)
    centre.salesforce.rule = lambda _: Reply(400, "a field is missing")
    await deliver(centre, rejected=2)
    await centre.db.execute("UPDATE StatisticsPartA SET ANumber = 'changed since'")
    centre.salesforce.rule = None

    code, text, _ = await centre.run("requeue", "--state", "rejected", "--dry-run")
    assert code == 0
    assert "rejected" in text
    assert await centre.states() == Counter(rejected=2)

    async with running(centre.settings(), centre.folder) as daemon:
        await daemon.until("daemon.started")
        code, _, errors = await centre.run("requeue", "--state", "rejected", "--call-id", "1")
        assert code == 0
        assert json.loads(errors.splitlines()[-1])["event"] == "operator.acted"
        await centre.until(delivered=1, rejected=1)
        assert await daemon.stop() == 0
    bodies = {request.body for request in centre.salesforce.requests if request.key == "1-0-0-0"}
    assert len(bodies) == 1


async def test_requeue_makes_records_anew_where_there_is_none_to_send(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=None, ended=ENDED)
    await plain_call(centre.db, 2, record=record_id(2), ended=ENDED)
    await deliver(centre, delivered=1, skipped=1)
    await centre.db.execute("UPDATE StatisticsPartA SET UserData = $1 WHERE ID = 1", record_id(1))
    await centre.db.execute("UPDATE line SET record = NULL WHERE call_id = 2")
    code, _, _ = await centre.run(
        *("requeue", "--state", "skipped", "--state", "delivered"),
        *("--from", "2026-11-20", "--to", "2026-11-21"),
    )
    assert code == 0
    assert await centre.states() == Counter(pending=2)
    await deliver(centre, delivered=2)


async def test_discard_withdraws_what_was_not_sent_yet(centre: CallCentre) -> None:
    for number in range(1, 31):
        await plain_call(centre.db, number, record=record_id(number), ended=ENDED)
    release = asyncio.Event()
    centre.salesforce.rule = lambda _: Reply(hold=release)
    async with running(centre.settings(concurrency="2"), centre.folder) as daemon:
        async with asyncio.timeout(PATIENCE):
            await centre.salesforce.until(lambda salesforce: salesforce.in_flight == 2)
        code, text, _ = await centre.run("discard", "--state", "pending")
        assert code == 0
        assert "30 lines discarded" in text
        release.set()
        await plain_call(centre.db, 99, record=record_id(99))
        await daemon.until("line.delivered", key="99-0-0-0")
        assert await daemon.stop() == 0

    assert await centre.states() == Counter(skipped=30, delivered=1)
    assert len(centre.salesforce.requests) == 3
    error = await centre.db.fetchval("SELECT DISTINCT last_error FROM line WHERE state = 'skipped'")
    assert error == "discarded by operator"


async def test_discard_can_withdraw_a_backfill_alone(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1), ended=ENDED - timedelta(days=1))
    await centre.run("backfill", "--from", "2026-11-19", "--to", "2026-11-20", "--no-wait")
    await plain_call(centre.db, 2, record=record_id(2), ended=ENDED)
    await centre.run("backfill", "--from", "2026-11-20", "--to", "2026-11-21", "--no-wait")
    await centre.db.execute("UPDATE line SET backfill = false WHERE call_id = 2")
    await centre.run("discard", "--state", "pending", "--backfill")
    rows = await centre.db.fetch("SELECT call_id, state FROM line ORDER BY call_id")
    assert [tuple(row) for row in rows] == [(1, "skipped"), (2, "pending")]


async def test_pause_holds_sending_across_restarts_while_taking_goes_on(centre: CallCentre) -> None:
    code, *_ = await centre.run("pause", "--reason", "release tonight")
    assert code == 0
    await plain_call(centre.db, 1, record=record_id(1))
    async with running(centre.settings(), centre.folder) as daemon:
        await daemon.until("sender.paused", reason="operator")
        await centre.until(pending=1)
        status = await centre.run_json("status")
        assert status["sender"] == {"state": "paused", "reason": "operator", "retry_at": None}
        _, text, _ = await centre.run("status")
        assert "release tonight" in text
        await centre.run("resume")
        await daemon.until("sender.resumed")
        await centre.until(delivered=1)
        assert await daemon.stop() == 0
    assert centre.salesforce.received == 1


async def test_check_finds_everything_right(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    findings = await centre.run_json("check")
    assert {finding["verdict"] for finding in findings} == {"ok"}, findings
    assert [finding["check"] for finding in findings] == [
        "settings", "source", "columns", "indexes", "rights", "standby", "clock", "session",
        "ledger", "binding", "token", "endpoint",
    ]  # fmt: skip
    assert centre.salesforce.received == 0


@pytest.mark.parametrize(
    ("change", "more", "code", "says"),
    [
        (
            "DROP INDEX jtelstats.statisticsparta_dtcallend",
            {},
            0,
            "CREATE INDEX CONCURRENTLY ON StatisticsPartA (dtCallEnd);",
        ),
        ("ALTER TABLE Users RENAME UID TO Login", {}, 78, "column Users.UID is missing"),
        ("UPDATE StatisticsPartA SET dtCallStart = now() + interval '1 h'", {}, 0, "ahead"),
        ("UPDATE alembic_version SET version_num = '9999'", {}, 78, "newer than this program"),
        ("UPDATE ledger SET source_database = 'other'", {}, 78, "of database other"),
        ("SELECT 1", {"client_secret": "wrong"}, 69, "CALLSTATSD_CLIENT_SECRET"),
        ("SELECT 1", {"client_secret": ""}, 78, "CALLSTATSD_CLIENT_SECRET is missing"),
        ("SELECT 1", {"ledger_dsn": "postgresql://127.0.0.1:1/x"}, 69, "ledger database cannot"),
    ],
)
async def test_check_names_each_fault_with_its_remedy(
    centre: CallCentre, change: str, more: dict[str, str], code: int, says: str
) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    await centre.db.execute(change)
    ended, text, errors = await centre.run("check", **more)
    assert says in text
    assert ended == code
    assert errors == ""


async def test_commands_refuse_a_call_id_that_is_none(centre: CallCentre) -> None:
    for arguments in (["show"], ["show", "12x"], ["requeue"], ["discard", "--state", "gone"]):
        code, *_ = await centre.run(*arguments)
        assert code == 2, arguments


async def test_a_state_that_is_pending_cannot_be_requeued(centre: CallCentre) -> None:
    await insert(centre.db, "ServiceNumbers", ID=2, Name="x", Name2="y")
    code, _, errors = await centre.run("requeue", "--state", "pending")
    assert code == 2
    assert "sent anyway" in errors


async def test_what_a_sweep_has_taken_up_meanwhile_is_not_sent_twice(centre: CallCentre) -> None:
    """Chosen as skipped, identified and delivered before it could be made anew."""
    await plain_call(centre.db, 1, record=record_id(1), ended=ENDED)
    await deliver(centre, delivered=1)
    async with (
        open_ledger(centre.dsn, "callstatsd") as ledger,
        open_source(centre.dsn, ("jtelstats",), BERLIN, None) as source,
    ):
        operator_store = OperatorStore(ledger.database)
        feed = StatisticsFeed(source, RULES, SENDING)
        lines_by_key = await feed.lines_by_key([LineKey(1, 0, 0, 0)])
        act_id = await operator_store.begin(Act(ActKind.REQUEUE, "alice@acd1"))
        assert await operator_store.renew(lines_by_key, act_id, (State.SKIPPED,)) == {}
        assert await centre.states() == Counter(delivered=1)
        assert await operator_store.renew(lines_by_key, act_id) == {
            LineKey(1, 0, 0, 0): State.PENDING
        }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("show", str(2**63)), "9223372036854775807"),
        (
            ("requeue", "--state", "rejected", "--call-id", str(2**63)),
            "9223372036854775807",
        ),
        (("pause", "--reason", "caf\udce9"), "must be UTF-8 text"),
        (("show", "--salesforce-id", "\udcff"), "must be UTF-8 text"),
    ],
)
async def test_what_no_row_can_hold_is_a_wrong_use_and_no_outage(
    centre: CallCentre, arguments: tuple[str, ...], says: str
) -> None:
    code, output, errors = await centre.run(*arguments)
    assert (code, output) == (2, "")
    assert says in " ".join(errors.split())
    assert "database" not in errors
