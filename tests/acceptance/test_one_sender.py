"""One instance sends for a ledger, whatever happens to it, its session or its network."""

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from daemon.demo.standin import Incoming, Reply
from daemon.ledger.lease import GRACE, TRUSTED_FOR
from daemon.service.instance import MAY_STILL_SEND
from tests.support.audit import audit
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import PATIENCE, Daemon, running
from tests.support.load import stretched
from tests.support.proxy import Mode, proxied
from tests.support.traffic import traffic
from tests.support.whole import CallCentre
from tests.support.wired import (
    BOTH_FEEDS,
    MARGIN,
    Wired,
    as_named,
    delivered_since,
    lateness,
    later,
    not_before,
    starts_of,
    wired,
)

LOCK_SESSIONS = """
SELECT pid FROM pg_stat_activity JOIN pg_locks USING (pid)
WHERE application_name = 'callstatsd lock' AND locktype = 'advisory' AND granted
  AND mode = 'ExclusiveLock' AND pg_locks.database =
      (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@asynccontextmanager
async def thawed_at_last(daemon: Daemon) -> AsyncIterator[None]:
    """Whatever fails, the frozen process can be ended."""
    try:
        yield
    finally:
        if daemon.process.returncode is None:
            daemon.signal(signal.SIGCONT)


async def taken_over(daemon: Daemon, since: float, within: float) -> float:
    """Wait until the daemon that stood by sends; returns the seconds since (`time.monotonic`)."""
    async with asyncio.timeout(stretched(within)):
        while not daemon.seen("line.delivered"):
            await asyncio.sleep(0.01)
    return time.monotonic() - since


async def test_after_a_kill_another_instance_delivers_within_five_seconds(
    centre: CallCentre,
) -> None:
    centre.salesforce.work = 0.01
    async with wired(centre) as wires:
        async with (
            running(wires.settings(**BOTH_FEEDS), centre.folder) as first,
            traffic(centre.dsn, callbacks=True) as calls,
        ):
            await first.until("line.delivered", 10)
            async with running(wires.settings(**BOTH_FEEDS), centre.folder) as second:
                await second.until("daemon.standby")
                wires.broke()
                first.signal(signal.SIGKILL)
                seconds = await taken_over(second, time.monotonic(), within=5)
                await calls.end()
                await wires.settled(calls.lines)
                assert await second.stop() == 0
        found = await audit(centre, breaks=wires.breaks, callbacks=True)
    print(f"{seconds:.2f} s", found)  # noqa: T201 - shown by pytest -s, and with a failure
    assert found.repeated_after_breaks <= 4 + 64


@pytest.mark.parametrize("mode", [Mode.DEAF, Mode.STALL])
async def test_a_silent_source_delays_no_takeover(centre: CallCentre, mode: Mode) -> None:
    """What is in the ledger can be sent without it."""
    async with wired(centre) as wires:
        async with (
            running(wires.settings(), centre.folder) as first,
            running(wires.settings(), centre.folder) as second,
        ):
            async with asyncio.timeout(PATIENCE):
                while not (started := first.seen("daemon.started") + second.seen("daemon.started")):
                    await asyncio.sleep(0.01)
            assert len(started) == 1
            holder, other = (first, second) if first.seen("daemon.started") else (second, first)
            await other.until("daemon.standby")
            await plain_call(centre.db, 1, record=record_id(1))
            await holder.until("line.delivered")
            await wires.source.switch(mode)
            await centre.db.execute(
                "UPDATE line SET state = 'pending', settled_at = NULL, generation = generation + 1"
            )
            holder.signal(signal.SIGKILL)
            seconds = await taken_over(other, time.monotonic(), within=5)
            assert len(other.seen("daemon.standby")) == 1
            assert await other.stop() == 0
    print(f"{seconds:.2f} s")  # noqa: T201


async def test_a_frozen_instance_is_replaced_within_fifteen_seconds_and_thawed_sends_nothing(
    centre: CallCentre,
) -> None:
    centre.salesforce.work = 0.01
    async with wired(centre) as wires:
        async with (
            running(wires.settings(), centre.folder) as first,
            thawed_at_last(first),
            traffic(centre.dsn) as calls,
        ):
            await first.until("line.delivered", 10)
            async with running(wires.settings(), centre.folder) as second:
                await second.until("daemon.standby")
                wires.broke()
                first.signal(signal.SIGSTOP)
                seconds = await taken_over(second, time.monotonic(), within=15)
                thawed = time.time()
                first.signal(signal.SIGCONT)
                await asyncio.sleep(3)
                assert not later(first, "daemon.started", thawed)
                await calls.end()
                await wires.settled(calls.ended)
                assert await first.stop() == 0
                assert await second.stop() == 0
        found = await audit(centre, breaks=wires.breaks)
    print(f"{seconds:.2f} s", found)  # noqa: T201
    assert seconds > 4


class OperatorPause:
    """A rule that keeps the first answer to one line until the test lets it go."""

    def __init__(self, release: asyncio.Event, key: str, reply: Reply | None = None) -> None:
        self.release = release
        self.key = key
        self.reply = reply or Reply()
        self.waiting = asyncio.Event()

    def __call__(self, incoming: Incoming) -> Reply | None:
        if incoming.key != self.key or self.waiting.is_set():
            return None
        self.waiting.set()
        return Reply(self.reply.status, self.reply.body, self.reply.headers, hold=self.release)


async def test_a_freeze_shorter_than_the_trust_in_a_ping_changes_nothing(
    centre: CallCentre,
) -> None:
    centre.salesforce.work = 0.01
    async with wired(centre) as wires:
        async with (
            running(wires.settings(), centre.folder) as first,
            thawed_at_last(first),
            traffic(centre.dsn) as calls,
        ):
            await first.until("line.delivered", 10)
            async with running(wires.settings(), centre.folder) as second:
                await second.until("daemon.standby")
                first.signal(signal.SIGSTOP)
                await asyncio.sleep(3)
                first.signal(signal.SIGCONT)
                await asyncio.sleep(2)
                assert not second.seen("daemon.started")
                await calls.end()
                await wires.settled(calls.ended)
                assert await second.stop() == 0
                assert await first.stop() == 0
        found = await audit(centre)
    assert found.repeated == 0


@pytest.mark.long
async def test_an_answer_that_a_thawed_instance_finds_brings_no_further_request(
    centre: CallCentre,
) -> None:
    """The answer waited in the socket while the process was frozen; more lines wait behind it."""
    release = asyncio.Event()
    rule = OperatorPause(release, "1-0-0-0")
    centre.salesforce.rule = rule
    await plain_call(centre.db, 1, record=record_id(1))
    environment = centre.settings(concurrency="1")
    async with running(environment, centre.folder) as first, thawed_at_last(first):
        async with asyncio.timeout(PATIENCE):
            await rule.waiting.wait()
        for number in range(2, 30):
            await plain_call(centre.db, number, record=record_id(number))
        await first.until("poll.taken", 2)
        async with running(environment, centre.folder) as second:
            await second.until("daemon.standby")
            first.signal(signal.SIGSTOP)
            await second.until("daemon.started")
            await centre.until(delivered=29)
            received = centre.salesforce.received
            release.set()
            await asyncio.sleep(0.3)
            first.signal(signal.SIGCONT)
            await first.until("daemon.standby")
            await asyncio.sleep(1)
            assert centre.salesforce.received == received
            assert await first.stop() == 0
            assert await second.stop() == 0


async def test_a_thawed_instance_does_not_repeat_a_request_whose_token_was_refused(
    centre: CallCentre,
) -> None:
    """Of two requests with an old token one is refused at once, the other while frozen."""
    release = asyncio.Event()
    late = OperatorPause(release, "1-0-0-0", Reply(401, "expired"))
    refused: list[str] = []

    def rule(incoming: Incoming) -> Reply | None:
        if incoming.key == "2-0-0-0" and late.waiting.is_set() and not refused:
            refused.append(incoming.key)
            return Reply(401, "expired")
        return late(incoming)

    centre.salesforce.rule = rule
    await plain_call(centre.db, 1, record=record_id(1))
    environment = centre.settings(concurrency="2")
    async with running(environment, centre.folder) as first, thawed_at_last(first):
        async with asyncio.timeout(PATIENCE):
            await late.waiting.wait()
        await plain_call(centre.db, 2, record=record_id(2))
        await first.until("line.delivered", key="2-0-0-0")
        async with running(environment, centre.folder) as second:
            await second.until("daemon.standby")
            first.signal(signal.SIGSTOP)
            await second.until("line.delivered", key="1-0-0-0")
            received = centre.salesforce.received
            release.set()
            await asyncio.sleep(0.3)
            first.signal(signal.SIGCONT)
            await first.until("daemon.standby")
            await asyncio.sleep(1)
            assert centre.salesforce.received == received


@pytest.mark.long
async def test_an_instance_that_froze_before_its_first_token_sends_nothing_when_thawed(
    centre: CallCentre,
) -> None:
    release = asyncio.Event()
    asked = asyncio.Event()

    def rule(_: Mapping[str, str]) -> Reply | None:
        if asked.is_set():
            return None
        asked.set()
        return Reply(hold=release)

    centre.salesforce.token_rule = rule
    await plain_call(centre.db, 1, record=record_id(1))
    environment = centre.settings()
    async with running(environment, centre.folder) as first, thawed_at_last(first):
        async with asyncio.timeout(PATIENCE):
            await asked.wait()
        async with running(environment, centre.folder) as second:
            await second.until("daemon.standby")
            first.signal(signal.SIGSTOP)
            await second.until("line.delivered")
            release.set()
            await asyncio.sleep(0.3)
            first.signal(signal.SIGCONT)
            await first.until("daemon.standby")
            await asyncio.sleep(1)
            assert centre.salesforce.received == 1


def starts(*daemons: Daemon) -> int:
    """How often any of them began to send."""
    return sum(len(daemon.seen("daemon.started")) for daemon in daemons)


async def test_a_lock_session_ended_by_an_administrator_costs_at_most_what_is_in_flight(
    centre: CallCentre,
) -> None:
    centre.salesforce.work = 0.02
    async with wired(centre) as wires:
        async with (
            running(wires.settings(), centre.folder) as first,
            running(wires.settings(), centre.folder) as second,
            traffic(centre.dsn) as calls,
        ):
            for times in range(5):
                async with asyncio.timeout(PATIENCE):
                    while starts(first, second) <= times:
                        await asyncio.sleep(0.01)
                await asyncio.sleep(0.5)
                [holder] = await centre.db.fetch(LOCK_SESSIONS)
                wires.broke()
                await centre.db.execute("SELECT pg_terminate_backend($1)", holder["pid"])
            await calls.end()
            await wires.settled(calls.ended)
            # Before one stops, which lets the other begin.
            assert starts(first, second) == 6
            assert await first.stop() == 0
            assert await second.stop() == 0
        found = await audit(centre, breaks=wires.breaks)
    print(found)  # noqa: T201


async def test_a_holder_that_cannot_hear_of_its_lost_lock_starts_nothing_after_2_5_seconds(
    centre: CallCentre,
) -> None:
    """The server ends the session while the network is cut, say in a failover."""
    centre.salesforce.work = 0.05
    for number in range(1, 151):
        await plain_call(centre.db, number, record=record_id(number))
    ready = not_before(centre)
    async with wired(centre) as wires, proxied(centre.dsn) as (_, dsn), lateness() as late:
        environment = wires.settings(**as_named(centre, "first"))
        async with running(environment, centre.folder) as first:
            await first.until("daemon.started")
            environment = wires.settings(ledger_dsn=dsn, **as_named(centre, "second"))
            async with running(environment, centre.folder) as second:
                await second.until("daemon.standby")
                ready.set()
                await first.until("line.delivered", 10)
                [holder] = await centre.db.fetch(LOCK_SESSIONS)
                await wires.ledger.switch(Mode.DEAF)
                cut = time.monotonic()
                await centre.db.execute("SELECT pg_terminate_backend($1)", holder["pid"])
                await first.until("database.lost", database="ledger")
                await wires.settled(150)
                assert await second.stop() == 0
    starts = starts_of(centre)
    last = max(at for at, name in starts if name == "first") - cut
    next_one = min(at for at, name in starts if name == "second") - cut
    print(f"{last:.2f} s, {next_one:.2f} s, {late.worst:.3f} s late")  # noqa: T201
    assert last < TRUSTED_FOR + MARGIN + late.worst
    # The session ended after the cut.
    assert next_one > GRACE
    assert centre.salesforce.repeated <= 1 + 64


@pytest.mark.parametrize("what", ["the network", "the server process"])
async def test_three_seconds_without_an_answer_to_a_ping_cost_nothing(
    centre: CallCentre, what: str
) -> None:
    """A request that is out meanwhile is not aborted, no line is repeated, nobody takes over."""
    release = asyncio.Event()
    out = OperatorPause(release, "1-0-0-0")
    centre.salesforce.rule = out
    centre.salesforce.work = 0.01
    async with (
        wired(centre) as wires,
        proxied(centre.dsn) as (_, dsn),
        traffic(centre.dsn) as calls,
    ):
        environment = wires.settings(request_timeout="60")
        async with running(environment, centre.folder) as first:
            async with asyncio.timeout(PATIENCE):
                await out.waiting.wait()
            async with running(wires.settings(ledger_dsn=dsn), centre.folder) as second:
                await second.until("daemon.standby")
                await first.until("line.delivered", 10)
                [holder] = await centre.db.fetch(LOCK_SESSIONS)
                async with stalled(wires, holder["pid"], what):
                    await asyncio.sleep(3)
                back = time.time()
                assert await delivered_since(first, back, within=PATIENCE) < PATIENCE
                release.set()
                await calls.end()
                await wires.settled(calls.ended)
                assert not second.seen("daemon.started")
                assert await second.stop() == 0
            assert await first.stop() == 0
        found = await audit(centre)
    assert found.repeated == 0
    assert not first.seen("daemon.standby")
    assert not first.seen("database.lost", database="ledger")
    assert not first.seen("sender.paused")
    assert await centre.db.fetchval("SELECT max(attempts + unanswered) FROM line") == 1


@asynccontextmanager
async def stalled(wires: Wired, pid: int, what: str) -> AsyncIterator[None]:
    """Pings get no answer meanwhile; afterwards they do."""
    if what == "the network":
        await wires.ledger.switch(Mode.STALL)
    else:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        if what == "the network":
            await wires.ledger.switch(Mode.PASS)
        else:
            os.kill(pid, signal.SIGCONT)


async def test_an_instance_whose_machine_vanished_is_replaced_within_fifteen_seconds(
    centre: CallCentre,
) -> None:
    """Nothing comes from it any more, no end of a connection either, and nothing reaches it."""
    centre.salesforce.work = 0.01
    async with wired(centre) as wires, wired(centre) as others, traffic(centre.dsn) as calls:
        async with running(wires.settings(), centre.folder) as first:
            await first.until("line.delivered", 10)
            async with running(others.settings(), centre.folder) as second:
                await second.until("daemon.standby")
                wires.broke()
                for wire in (wires.salesforce, wires.ledger, wires.source):
                    await wire.switch(Mode.DEAF)
                seconds = await taken_over(second, time.monotonic(), within=15)
                first.signal(signal.SIGKILL)
                await calls.end()
                await wires.settled(calls.ended)
                assert await second.stop() == 0
        found = await audit(centre, breaks=wires.breaks)
    print(f"{seconds:.2f} s", found)  # noqa: T201


async def test_after_a_stop_in_order_the_next_one_sends_at_once(centre: CallCentre) -> None:
    """A restart, and a standby: neither waits for a holder that is surely gone."""
    await plain_call(centre.db, 1, record=record_id(1))
    async with running(centre.settings(), centre.folder) as first:
        await first.until("line.delivered")
        async with running(centre.settings(), centre.folder) as second:
            await second.until("daemon.standby")
            assert await first.stop() == 0
            await second.until("daemon.started")
            assert await second.stop() == 0
    async with running(centre.settings(), centre.folder) as third:
        await third.until("daemon.started")
        assert await third.stop() == 0
    for daemon in (second, third):
        assert not daemon.seen("daemon.waiting", error=MAY_STILL_SEND), daemon.text


async def test_after_a_kill_the_next_one_waits(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    async with running(centre.settings(), centre.folder) as first:
        await first.until("line.delivered")
        killed_at = time.monotonic()
        first.signal(signal.SIGKILL)
    await plain_call(centre.db, 2, record=record_id(2))
    async with running(centre.settings(), centre.folder) as second:
        await centre.until(delivered=2)
        assert second.seen("daemon.waiting", error=MAY_STILL_SEND)
        assert await second.stop() == 0
    assert centre.salesforce.requests[-1].started > killed_at + GRACE


async def test_two_ledgers_in_one_database_do_not_wait_for_each_other(centre: CallCentre) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    other = {"ledger_schema": "callstatsd_two"}
    assert (await centre.run("migrate", **other))[0] == 0
    async with (
        running(centre.settings(), centre.folder) as first,
        running(centre.settings(**other), centre.folder) as second,
    ):
        await first.until("line.delivered")
        await second.until("line.delivered")
        assert len(await centre.db.fetch(LOCK_SESSIONS)) == 2
        assert await first.stop() == 0
        assert await second.stop() == 0


FREEZES_IN_A_TRANSACTION = """
import os, signal, sys
import asyncpg.transaction
from daemon.cli import entry
from daemon.ledger import store

settle, settling = store.Ledger.settle, False

async def marked(self, *arguments, **named):
    global settling
    settling = True
    return await settle(self, *arguments, **named)

leave = asyncpg.transaction.Transaction.__aexit__

async def frozen(self, *arguments):
    if settling:
        os.kill(os.getpid(), signal.SIGSTOP)
    return await leave(self, *arguments)

store.Ledger.settle = marked
asyncpg.transaction.Transaction.__aexit__ = frozen
sys.argv = ["callstatsd", "run"]
entry.main()
"""


async def test_an_instance_that_freezes_while_it_writes_outcomes_blocks_nobody(
    centre: CallCentre,
) -> None:
    for number in range(1, 4):
        await plain_call(centre.db, number, record=record_id(number))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FREEZES_IN_A_TRANSACTION,
        env=centre.settings() | {"PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=centre.folder, stderr=PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE):
            while not is_stopped(process.pid):
                await asyncio.sleep(0.05)
        async with running(centre.settings(), centre.folder) as second:
            async with asyncio.timeout(stretched(25)):
                await second.until("daemon.started")
                await centre.until(delivered=3)
    finally:
        process.send_signal(signal.SIGKILL)
        await process.communicate()


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        return stat.read_text().rpartition(")")[2].split()[0] == "T"
    return os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
