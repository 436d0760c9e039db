"""Killed at any step between reading a call and settling its lines, the daemon loses none."""

import asyncio
import signal
import sys
import time
from pathlib import Path

import pytest

from daemon.demo.standin import Incoming, Reply
from tests.support.audit import Break, audit
from tests.support.daemon_process import PATIENCE, running
from tests.support.killer import POINTS
from tests.support.traffic import traffic
from tests.support.whole import CallCentre

CONCURRENCY = 4
REPEATS = CONCURRENCY + 64


async def recovered(centre: CallCentre, lines: int, killed_at: float) -> None:
    """Let a daemon finish what another one left, and compare all three sides."""
    async with running(centre.settings(retry_max="1"), centre.folder) as daemon:
        await centre.until(delivered=lines)
        assert await daemon.stop() == 0
    # What was in flight may still be under way at Salesforce.
    async with asyncio.timeout(PATIENCE):
        await centre.salesforce.until(lambda salesforce: salesforce.in_flight == 0)
    print(await audit(centre, breaks=[Break(killed_at, REPEATS)]))  # noqa: T201


@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_this_step_it_loses_nothing_and_repeats_little(
    centre: CallCentre, point: str, when: str, nth: int
) -> None:
    environment = centre.settings(concurrency=str(CONCURRENCY)) | {
        "KILL_POINT": point,
        "KILL_WHEN": when,
        "KILL_NTH": str(nth),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    async with traffic(centre.dsn, per_second=100, records=5) as calls:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.killer",
            env=environment, cwd=centre.folder, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with asyncio.timeout(PATIENCE):
                assert await process.wait() == -signal.SIGKILL
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        killed_at = time.monotonic()
        await calls.end()
    await recovered(centre, calls.ended, killed_at)


@pytest.mark.parametrize("written", [False, True], ids=["not written", "written"])
@pytest.mark.parametrize("nth", [1, 30])
async def test_killed_while_a_request_is_out_it_sends_it_again_under_the_same_key(
    centre: CallCentre, nth: int, *, written: bool
) -> None:
    async with traffic(centre.dsn, per_second=100, records=5) as calls:
        async with running(centre.settings(concurrency=str(CONCURRENCY)), centre.folder) as daemon:
            killed: list[str] = []

            def kill(incoming: Incoming) -> Reply | None:
                if centre.salesforce.received < nth or killed:
                    return None
                killed.append(incoming.key)
                daemon.signal(signal.SIGKILL)
                return Reply(cut="after" if written else "before")

            centre.salesforce.rule = kill
            assert await daemon.ended() == -signal.SIGKILL
        killed_at = time.monotonic()
        await calls.end()
    await recovered(centre, calls.ended, killed_at)

    again = [one for one in centre.salesforce.requests if one.key == killed[0]]
    assert [one.status for one in again] == [0, 200]
    assert again[0].body == again[1].body
