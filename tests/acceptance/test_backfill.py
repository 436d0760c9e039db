"""`callstatsd backfill`: a window once, beside a running daemon and without one."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from daemon.demo.standin import Incoming, Reply
from daemon.errors import UnreachableError
from daemon.ingest import source
from daemon.ingest.intake import Intake
from daemon.ingest.readiness import Window
from daemon.ingest.statistics import StatisticsFeed
from daemon.ledger.acts import Act, ActKind
from daemon.ledger.operator import OperatorStore
from daemon.ledger.store import open_ledger
from daemon.service import backfill
from daemon.service.instance import MAY_STILL_SEND
from daemon.settings.loading import load_settings
from tests.support.call_centre import CallCentre
from tests.support.calls import insert, plain_call, record_id
from tests.support.daemon_process import PATIENCE, running
from tests.support.site import RULES, SENDING

BERLIN = ZoneInfo("Europe/Berlin")
DAY = datetime(2026, 11, 3, tzinfo=BERLIN)
WINDOW = ("--from", "2026-11-03", "--to", "2026-11-04")


async def add_calls(centre: CallCentre, count: int, *, first: int = 1) -> None:
    """Calls of one day, each of its own record, from midnight to its last hour."""
    for number in range(first, first + count):
        ended = DAY + timedelta(seconds=(number - 1) * 23 * 3600 // max(1, count - 1))
        await plain_call(centre.db, number, record=record_id(number), ended=ended.astimezone(UTC))


async def test_alone_it_takes_the_window_and_sends_it(centre: CallCentre) -> None:
    await add_calls(centre, 12)
    await plain_call(centre.db, 50, record=record_id(50), ended=DAY - timedelta(microseconds=1000))
    await plain_call(centre.db, 51, record=record_id(51), ended=DAY + timedelta(days=1))

    dry = await centre.run_json("backfill", *WINDOW, "--dry-run")
    done = await centre.run_json("backfill", *WINDOW)
    again = await centre.run_json("backfill", *WINDOW)

    assert dry == {"calls": 12, "lines": 12, "new": 12}
    assert list(done) == [
        "calls", "lines", "new", "pending", "delivered", "conflict", "not_found", "rejected",
        "expired", "invalid", "skipped", "seconds",
    ]  # fmt: skip
    assert (done["calls"], done["lines"], done["new"], done["delivered"]) == (12, 12, 12, 12)
    assert (again["calls"], again["lines"], again["new"], again["delivered"]) == (12, 12, 0, 12)
    assert {request.key for request in centre.salesforce.requests} == {
        f"{number}-0-0-0" for number in range(1, 13)
    }
    assert len(centre.salesforce.requests) == 12
    assert (await centre.run_json("status"))["sender"]["state"] == "stopped"


async def test_beside_a_running_daemon_it_only_takes_and_watches(centre: CallCentre) -> None:
    await add_calls(centre, 12)
    async with running(centre.settings(start_from="2026-11-20"), centre.folder) as daemon:
        await daemon.until("daemon.started")
        done = await centre.run_json("backfill", *WINDOW)
        assert await daemon.stop() == 0

    assert (done["new"], done["delivered"]) == (12, 12)
    assert len(daemon.seen("line.delivered")) == 12


async def test_it_hands_over_to_a_daemon_that_comes(centre: CallCentre) -> None:
    await add_calls(centre, 40)
    came = asyncio.Event()
    tokens: list[str] = []

    def slow_for_the_backfill(incoming: Incoming) -> Reply | None:
        """So that it cannot be done before the daemon is there, however slow that starts."""
        tokens.append(incoming.headers["Authorization"])
        if tokens[-1] != tokens[0] or len(tokens) <= 3:
            return None
        return Reply(delay=1.0) if came.is_set() else Reply(hold=came)

    centre.salesforce.rule = slow_for_the_backfill
    process = await centre.start("backfill", *WINDOW, "--json", concurrency="1")
    async with asyncio.timeout(PATIENCE):
        await centre.salesforce.until(lambda salesforce: salesforce.received >= 3)
        async with running(centre.settings(concurrency="1"), centre.folder) as daemon:
            await daemon.until("daemon.standby")
            came.set()
            await daemon.until("line.delivered")
            output, _ = await process.communicate()
            assert await daemon.stop() == 0

    assert process.returncode == 0
    assert json.loads(output)["delivered"] == 40
    assert centre.salesforce.repeated == 0
    assert 0 < len(daemon.seen("line.delivered")) < 40
    assert not daemon.seen("daemon.waiting", error=MAY_STILL_SEND)


async def test_live_lines_go_before_backfill_lines(centre: CallCentre) -> None:
    await add_calls(centre, 30)
    _, *_ = await centre.run("backfill", *WINDOW, "--no-wait")
    assert await centre.states() == Counter(pending=30)
    await plain_call(centre.db, 99, record=record_id(99))
    centre.salesforce.work = 0.05
    taken = asyncio.Event()
    centre.salesforce.rule = lambda _: None if taken.is_set() else Reply(hold=taken)

    async with running(
        centre.settings(concurrency="1", start_from="2026-11-20"), centre.folder
    ) as daemon:
        async with asyncio.timeout(PATIENCE):
            await centre.salesforce.until(lambda salesforce: salesforce.in_flight == 1)
        await daemon.until("poll.taken")
        taken.set()
        await centre.until(delivered=31)
        assert await daemon.stop() == 0

    keys = [request.key for request in centre.salesforce.requests]
    # It was taken after the sender had begun, and waited for the line in flight alone.
    assert keys.index("99-0-0-0") <= 8


async def test_killed_in_the_middle_it_goes_on_where_it_was(centre: CallCentre) -> None:
    await add_calls(centre, 60)
    centre.salesforce.work = 0.02
    process = await centre.start("backfill", *WINDOW)
    async with asyncio.timeout(PATIENCE):
        await centre.salesforce.until(lambda salesforce: salesforce.received >= 20)
        process.kill()
        await process.communicate()
        await centre.salesforce.until(lambda salesforce: salesforce.in_flight == 0)

    done = await centre.run_json("backfill", *WINDOW)

    assert done["lines"] == done["delivered"] == 60
    assert len(centre.salesforce.known) == 60
    assert centre.salesforce.repeated <= 4 + 64


async def test_ctrl_c_finishes_what_is_in_flight_and_says_how_to_go_on(centre: CallCentre) -> None:
    await add_calls(centre, 60)
    heard = asyncio.Event()
    centre.salesforce.rule = lambda incoming: (
        Reply(hold=heard) if incoming.number > 8 and not heard.is_set() else None
    )
    process = await centre.start("backfill", *WINDOW)
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE):
        await centre.salesforce.until(lambda salesforce: salesforce.received >= 9)
        process.send_signal(signal.SIGINT)
        async for line in process.stderr:
            if b"daemon.stopping" in line:
                break
        heard.set()
        _, errors = await process.communicate()

    assert process.returncode == 1
    assert "the same command goes on where it was" in errors.decode()
    states = await centre.states()
    assert states["delivered"] == len(centre.salesforce.known) < 60
    assert (await centre.run_json("backfill", *WINDOW))["delivered"] == 60
    assert centre.salesforce.repeated == 0


async def test_resend_sends_settled_lines_again_made_anew(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1), ended=DAY)
    await insert(
        centre.db, "StatisticsPartB", ID=11, StatisticsPartAID=1, UsersID=11, CONNRES=1,
        dtCallStart=DAY, dtCallEnd=DAY,
    )  # fmt: skip
    code = {"ID": 21, "StatisticsPartAID": 1, "StatisticsPartBID": 11, "TransactionCodesID": 31}
    await centre.run_json("backfill", *WINDOW)
    await insert(centre.db, "AcdStatisticsTransactionCodes", **code, dtCreated=DAY)
    await centre.run_json("backfill", *WINDOW)
    assert [request.key for request in centre.salesforce.requests] == ["1-0-11-0", "1-0-11-21"]
    await centre.db.execute("UPDATE StatisticsPartB SET CONNRES = 4")
    await centre.db.execute("DELETE FROM AcdStatisticsTransactionCodes")

    done = await centre.run_json("backfill", *WINDOW, "--resend")

    assert (done["new"], done["resent"], done["delivered"]) == (0, 2, 2)
    first, second = centre.salesforce.requests[2:]
    assert {first.key, second.key} == {"1-0-11-0", "1-0-11-21"}
    assert first.record["CONNRES"] == second.record["CONNRES"] == 4
    assert second.record["TransactionCodeExportKey"] is None
    assert await centre.db.fetchval("SELECT min(generation) FROM line") == 1


async def test_a_dry_run_of_a_resend_counts_what_would_be_sent_again(centre: CallCentre) -> None:
    await add_calls(centre, 6)
    await plain_call(centre.db, 7, record=None, ended=DAY)
    assert (await centre.run("backfill", *WINDOW))[0] == 0
    await centre.db.execute(
        "UPDATE line SET state = 'pending', settled_at = NULL WHERE call_id = 1"
    )
    await centre.db.execute("DELETE FROM StatisticsPartA WHERE ID = 2")
    await centre.db.execute("DELETE FROM line WHERE call_id = 3")

    counted = await centre.run_json("backfill", *WINDOW, "--resend", "--dry-run")
    assert counted == {"calls": 6, "lines": 6, "new": 1, "resent": 3}
    assert (await centre.run_json("backfill", *WINDOW, "--dry-run")).keys() == {
        "calls",
        "lines",
        "new",
    }
    _, text, _ = await centre.run("backfill", *WINDOW, "--resend", "--dry-run")
    assert "3 settled lines would be sent again (nothing was changed)" in text
    assert await centre.db.fetchval("SELECT count(*) FROM act") == 1

    done = await centre.run_json("backfill", *WINDOW, "--resend", "--no-wait")
    assert {name: done[name] for name in counted} == counted


async def test_a_backfill_that_is_cut_is_on_record_with_what_it_has_taken(
    centre: CallCentre,
) -> None:
    await add_calls(centre, 5)
    act = Act(ActKind.BACKFILL, "alice@acd1", since=DAY, until=DAY + timedelta(days=1))
    pages = iter((None, None, UnreachableError("retention came between")))

    def kept() -> None:
        if (error := next(pages)) is not None:
            raise error

    async with (
        source.open_source(centre.dsn, ("jtelstats",), BERLIN, None, page=2) as acd,
        open_ledger(centre.dsn, "callstatsd") as ledger,
    ):
        feed = StatisticsFeed(acd, RULES, SENDING)
        work = backfill.Backfill(
            feed,
            ledger,
            Intake(feed, ledger),
            backfill.Period(DAY, DAY + timedelta(days=1)),
            lambda _: None,
            kept,
            act,
        )
        with pytest.raises(UnreachableError):
            await work.take(Window(DAY, DAY + timedelta(days=1)), resend=False)
        (recorded,) = await OperatorStore(ledger.database).latest_acts(9)
    assert (recorded.act, recorded.ended_at, recorded.lines) == (act, None, 4)
    lines = await centre.db.fetch("SELECT act_id FROM line")
    assert [row["act_id"] for row in lines] == [1] * 4
    _, text, _ = await centre.run("status")
    assert "alice@acd1: backfill --from 2026-11-03T00:00:00 --to 2026-11-04T00:00:00" in text
    assert "4 lines so far, not finished" in text


async def test_a_window_that_overlaps_pruned_lines_is_refused(centre: CallCentre) -> None:
    await add_calls(centre, 3)
    await centre.db.execute("UPDATE feed SET pruned_before = $1", DAY + timedelta(hours=1))
    code, output, errors = await centre.run("backfill", *WINDOW)
    assert (code, output) == (1, "")
    assert "--resend" in errors
    assert await centre.states() == Counter()


async def test_the_refusal_names_when_to_begin_and_that_repeats_nothing(centre: CallCentre) -> None:
    """The very moment of the newest pruned call belongs to what was removed."""
    await plain_call(centre.db, 1, record=record_id(1), ended=DAY)
    await plain_call(centre.db, 2, record=record_id(2), ended=DAY + timedelta(seconds=1))
    await centre.db.execute("UPDATE feed SET pruned_before = $1", DAY)
    at = f"{DAY.astimezone(BERLIN):%Y-%m-%dT%H:%M:%S}"
    code, _, errors = await centre.run("backfill", "--from", at, *WINDOW[2:])
    assert code == 1
    earliest = f"{(DAY + timedelta(seconds=1)).astimezone(BERLIN):%Y-%m-%dT%H:%M:%S}"
    assert f"begin at {earliest} or later" in errors
    done = await centre.run_json("backfill", "--from", earliest, *WINDOW[2:])
    assert (done["calls"], done["delivered"]) == (1, 1)
    assert [request.key for request in centre.salesforce.requests] == ["2-0-0-0"]


async def test_resend_sees_lines_through_whose_call_has_another_end_by_now(
    centre: CallCentre,
) -> None:
    await add_calls(centre, 3)
    assert (await centre.run_json("backfill", *WINDOW))["delivered"] == 3
    await centre.db.execute("UPDATE StatisticsPartA SET dtCallEnd = dtCallEnd + interval '2 days'")
    centre.salesforce.rule = lambda incoming: (
        Reply(400, "no such field") if incoming.key == "2-0-0-0" else None
    )
    later = [f"{DAY + timedelta(days=days):%Y-%m-%d}" for days in (2, 3)]
    code, output, _ = await centre.run(
        "backfill", "--from", later[0], "--to", later[1], "--resend", "--json"
    )
    done = json.loads(output)
    assert (code, done["delivered"], done["rejected"]) == (1, 2, 1)
    assert await centre.states() == Counter(delivered=2, rejected=1)


async def until_it_raises(kept: Callable[[], None]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:  # a lost session is noticed, nobody announces it
            kept()
            await asyncio.sleep(0.05)


async def test_a_backfill_that_retention_may_have_disturbed_ends(centre: CallCentre) -> None:
    async with open_ledger(centre.dsn, "callstatsd") as ledger, ledger.retention_locked() as kept:
        kept()
        await centre.db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks"
            " WHERE locktype = 'advisory' AND mode = 'ShareLock'"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        with pytest.raises(UnreachableError, match="start the backfill again"):
            await until_it_raises(kept)


async def test_it_ends_with_1_when_lines_need_an_operator(centre: CallCentre) -> None:
    await add_calls(centre, 3)
    centre.salesforce.rule = lambda incoming: (
        Reply(400, "no such field") if incoming.key == "2-0-0-0" else None
    )
    code, output, _ = await centre.run("backfill", *WINDOW, "--json")
    assert code == 1
    assert json.loads(output)["rejected"] == 1


async def test_calls_that_are_not_ready_wait(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1), ended=datetime.now(UTC))
    today = datetime.now(BERLIN)
    window = ("--from", f"{today:%Y-%m-%d}", "--to", f"{today + timedelta(days=1):%Y-%m-%d}")
    done = await centre.run_json("backfill", *window, settle_delay="3600")
    assert (done["calls"], done["new"]) == (0, 0)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--from", "2026-11-04", "--to", "2026-11-03"),
        ("--from", "yesterday", "--to", "2026-11-03"),
        ("--from", "2026-11-04"),
    ],
)
async def test_a_window_that_is_none_is_a_fault_of_usage(
    centre: CallCentre, arguments: tuple[str, ...]
) -> None:
    code, _, errors = await centre.run("backfill", *arguments)
    assert code == 2
    assert "--from" in errors or "--to" in errors or "is not a valid time" in errors


async def test_a_pause_that_lasts_ends_it_with_69_and_the_lines_stay_pending(
    centre: CallCentre, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_calls(centre, 3)
    centre.salesforce.rule = lambda _: Reply(503)
    for name, value in centre.settings().items():
        if name.startswith("CALLSTATSD_"):
            monkeypatch.setenv(name, value)
    period = backfill.Period(DAY, DAY + timedelta(days=1))

    with pytest.raises(UnreachableError, match=r"paused for .* \(unavailable\); 3 lines") as raised:
        await backfill.backfill(
            load_settings(to_send=True), period, asyncio.Event(), lambda _: None,
            dry_run=False, resend=False, wait=True, paused_for=1.0,
        )  # fmt: skip

    assert raised.value.exit_code == 69
    assert await centre.states() == Counter(pending=3)
