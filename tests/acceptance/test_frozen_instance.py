"""An instance that froze is replaced, and sends nothing once it is thawed."""

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
from tests.support.audit import audit
from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import PATIENCE, Daemon, running
from tests.support.load import stretched
from tests.support.proxied_centre import OperatorPause, later, taken_over, wired
from tests.support.traffic import traffic


@asynccontextmanager
async def thawed_at_last(daemon: Daemon) -> AsyncIterator[None]:
    """Whatever fails, the frozen process can be ended."""
    try:
        yield
    finally:
        if daemon.process.returncode is None:
            daemon.signal(signal.SIGCONT)


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
