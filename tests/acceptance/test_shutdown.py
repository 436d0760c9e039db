"""Told to stop, the daemon ends promptly whatever it is waiting for, and sends nothing more."""

import asyncio
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest

from daemon.demo.standin import Reply
from tests.support import rows
from tests.support.audit import audit
from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import PATIENCE, Daemon, running
from tests.support.load import stretched
from tests.support.proxied_centre import Wired, wired
from tests.support.proxy import Mode
from tests.support.traffic import traffic

AT_ONCE = 2.0
"""Seconds to end where nothing is in flight; an idle machine needs a part of them."""


async def assert_ends(daemon: Daemon, centre: CallCentre, within: float) -> float:
    """Stop, in order and in time; not one request starts after it. Returns the seconds it took."""
    received = centre.salesforce.received
    began = time.monotonic()
    daemon.signal(signal.SIGTERM)
    code = await daemon.ended()
    seconds = time.monotonic() - began
    assert code == 0, daemon.text
    assert seconds < stretched(within), f"{seconds:.2f} s\n{daemon.text}"
    assert centre.salesforce.received == received
    assert "Traceback" not in daemon.text
    return seconds


@pytest.mark.parametrize("which", ["source", "ledger"])
async def test_a_stop_while_a_database_refuses_at_the_start_is_obeyed_at_once(
    centre: CallCentre, which: str
) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    async with wired(centre) as wires:
        await getattr(wires, which).switch(Mode.REFUSE)
        async with running(wires.settings(), centre.folder) as daemon:
            await daemon.until("database.lost", database=which)
            await assert_ends(daemon, centre, AT_ONCE)


@pytest.mark.parametrize("which", ["source", "ledger"])
async def test_a_stop_while_a_database_stalls_at_the_start_waits_for_one_connect_at_most(
    centre: CallCentre, which: str
) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    async with wired(centre) as wires:
        proxy = getattr(wires, which)
        await proxy.switch(Mode.STALL)
        async with running(wires.settings(), centre.folder) as daemon:
            async with asyncio.timeout(PATIENCE):
                while not proxy.accepted:
                    await asyncio.sleep(0.02)
            seconds = await assert_ends(daemon, centre, 10.0 + AT_ONCE)
    print(f"{seconds:.2f} s")  # noqa: T201 - shown by pytest -s, and with a failure


async def test_a_stop_while_standing_by_is_obeyed_at_once(centre: CallCentre) -> None:
    async with running(centre.settings(), centre.folder) as first:
        await first.until("daemon.started")
        async with running(centre.settings(), centre.folder) as second:
            await second.until("daemon.standby")
            await assert_ends(second, centre, AT_ONCE)


async def test_a_stop_while_much_is_taken_cuts_the_poll_and_the_next_start_goes_on(
    centre: CallCentre,
) -> None:
    count = 12_000
    ended = datetime.now(UTC) - timedelta(minutes=5)
    await rows.add(
        centre.db,
        *(
            rows.call(
                number,
                userdata=None,
                dtcallstart=ended,
                dtcallend=ended + timedelta(milliseconds=number),
            )
            for number in range(1, count + 1)
        ),
    )
    async with running(centre.settings(), centre.folder) as daemon:
        async with asyncio.timeout(PATIENCE):
            while not await centre.db.fetchval("SELECT count(*) FROM line"):
                await asyncio.sleep(0.01)
        await assert_ends(daemon, centre, AT_ONCE)
    taken = await centre.db.fetchval("SELECT count(*) FROM line")
    assert 0 < taken < count

    async with running(centre.settings(), centre.folder) as daemon:
        await centre.until(skipped=count)
        assert await daemon.stop() == 0


async def test_a_stop_in_an_outage_of_salesforce_is_obeyed_at_once(centre: CallCentre) -> None:
    for number in range(1, 9):
        await plain_call(centre.db, number, record=record_id(number))
    centre.salesforce.rule = lambda _: Reply(503)
    async with running(centre.settings(retry_initial="5"), centre.folder) as daemon:
        await daemon.until("sender.paused", reason="unavailable")
        await asyncio.sleep(0.5)
        await assert_ends(daemon, centre, AT_ONCE)


async def test_a_stop_in_an_operators_pause_is_obeyed_at_once(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    assert (await centre.run("pause"))[0] == 0
    async with running(centre.settings(), centre.folder) as daemon:
        await daemon.until("poll.taken")
        await assert_ends(daemon, centre, AT_ONCE)
    assert centre.salesforce.received == 0


async def test_a_stop_interrupts_a_back_off_and_does_not_send_once_more(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    centre.salesforce.rule = lambda _: Reply(423, headers={"Retry-After": "1"})
    async with running(centre.settings(), centre.folder) as daemon:
        await daemon.until("line.locked")
        await assert_ends(daemon, centre, AT_ONCE)
    assert centre.salesforce.received == 1


async def outage(wires: Wired, mode: Mode) -> None:
    await wires.ledger.switch(mode)
    if mode is Mode.REFUSE:
        wires.ledger.cut(reset=True)


async def test_a_stop_in_an_outage_of_the_ledger_is_obeyed_at_once(centre: CallCentre) -> None:
    async with wired(centre) as wires, running(wires.settings(), centre.folder) as daemon:
        await daemon.until("daemon.started")
        await outage(wires, Mode.REFUSE)
        await daemon.until("database.lost", database="ledger")
        await asyncio.sleep(1)
        await assert_ends(daemon, centre, AT_ONCE)


@pytest.mark.parametrize(
    ("mode", "after"),
    [
        pytest.param(Mode.STALL, 0.5, id="stalls unnoticed", marks=pytest.mark.long),
        pytest.param(Mode.STALL, 8.0, id="stalls noticed"),
        pytest.param(Mode.DEAF, 0.5, id="is silent unnoticed"),
        pytest.param(Mode.DEAF, 8.0, id="is silent noticed", marks=pytest.mark.long),
    ],
)
async def test_a_stop_while_the_ledger_does_not_answer_keeps_to_the_time_of_a_drain(
    centre: CallCentre, mode: Mode, after: float
) -> None:
    """REQUEST_TIMEOUT + 5 s by contract; here 5 + 5, and a margin."""
    async with wired(centre) as wires, running(wires.settings(), centre.folder) as daemon:
        await daemon.until("daemon.started")
        await outage(wires, mode)
        await asyncio.sleep(after)
        seconds = await assert_ends(daemon, centre, 10.0 + AT_ONCE)
    print(f"{seconds:.2f} s")  # noqa: T201


async def test_a_stop_in_the_silence_of_a_ledger_that_was_busy_keeps_to_it_too(
    centre: CallCentre,
) -> None:
    """Outcomes that could not be written make the exit code 1; their lines are sent again."""
    centre.salesforce.work = 0.005
    async with wired(centre) as wires, traffic(centre.dsn) as calls:
        async with running(wires.settings(), centre.folder) as daemon:
            await daemon.until("line.delivered", 20)
            wires.broke()
            await wires.ledger.switch(Mode.DEAF)
            await daemon.until("database.lost", database="ledger")
            wires.broke()
            began = time.monotonic()
            daemon.signal(signal.SIGTERM)
            assert await daemon.ended() in {0, 1}
            seconds = time.monotonic() - began
        await calls.end()
        async with running(centre.settings(retry_max="1"), centre.folder) as daemon:
            await wires.settled(calls.ended)
            assert await daemon.stop() == 0
        print(f"{seconds:.2f} s", await audit(centre, breaks=wires.breaks))  # noqa: T201
    assert seconds < stretched(10.0 + AT_ONCE)


async def test_a_stop_while_outcomes_cannot_be_written_says_so_and_sends_them_again_later(
    centre: CallCentre,
) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    await centre.db.execute(
        """
        CREATE FUNCTION callstatsd.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'refused by the test'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON callstatsd.line
        FOR EACH ROW EXECUTE FUNCTION callstatsd.refuse();
        """
    )
    async with running(centre.settings(), centre.folder) as daemon:
        await daemon.until("database.lost", database="ledger")
        began = time.monotonic()
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 1
        assert time.monotonic() - began < stretched(5 + 1 + AT_ONCE)
    assert "Traceback" not in daemon.text
    await centre.db.execute("DROP FUNCTION callstatsd.refuse CASCADE")

    async with running(centre.settings(), centre.folder) as daemon:
        await centre.until(delivered=1)
        assert await daemon.stop() == 0
    assert centre.salesforce.received == 2
