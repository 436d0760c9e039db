"""Killed at any step between reading a call and settling its lines, the daemon loses none."""

import asyncio
import signal
import time
from asyncio.subprocess import DEVNULL
from collections.abc import Iterator
from itertools import product

import pytest
from _pytest.mark import ParameterSet

from daemon.demo.standin import Incoming, Reply
from tests.support.audit import Break, audit
from tests.support.call_centre import CallCentre
from tests.support.daemon_process import PATIENCE, running
from tests.support.killer import POINTS
from tests.support.preloaded import Process
from tests.support.proxied_centre import BOTH_FEEDS
from tests.support.traffic import traffic

CONCURRENCY = 4
REPEATS = CONCURRENCY + 64


async def recovered(centre: CallCentre, lines: int, killed_at: float, **settings: str) -> None:
    """Let a daemon finish what another one left, and compare all three sides."""
    async with running(centre.settings(retry_max="1", **settings), centre.folder) as daemon:
        await centre.until(delivered=lines)
        assert await daemon.stop() == 0
    # What was in flight may still be under way at Salesforce.
    async with asyncio.timeout(PATIENCE):
        await centre.salesforce.until(lambda salesforce: salesforce.in_flight == 0)
    breaks = [Break(killed_at, REPEATS)]
    print(await audit(centre, breaks=breaks, callbacks="callback_url" in settings))  # noqa: T201


TELLING = {
    ("take", "after", 1),
    ("post", "before", 1),
    ("post", "after", 3),
    ("settle", "before", 3),
    ("commit", "before", 3),
}
"""Between two steps each, where something is done and not yet written; the others are `long`."""


def killings() -> Iterator[ParameterSet]:
    for killing in product(POINTS, ("before", "after"), (1, 3)):
        yield pytest.param(*killing, marks=() if killing in TELLING else pytest.mark.long)


@pytest.mark.parametrize(("point", "when", "nth"), list(killings()))
async def test_killed_at_this_step_it_loses_nothing_and_repeats_little(
    centre: CallCentre, point: str, when: str, nth: int
) -> None:
    environment = centre.settings(concurrency=str(CONCURRENCY), **BOTH_FEEDS) | {
        "KILL_POINT": point,
        "KILL_WHEN": when,
        "KILL_NTH": str(nth),
    }
    process = await Process.start(
        environment=environment,
        folder=centre.folder,
        descriptors=(DEVNULL,) * 3,
        module="tests.support.killer",
    )
    try:
        async with (
            traffic(centre.dsn, per_second=60, records=5, callbacks=True) as calls,
            asyncio.timeout(PATIENCE),
        ):
            assert await process.wait() == -signal.SIGKILL
            killed_at = time.monotonic()
    finally:
        process.kill()
        await process.wait()
    await recovered(centre, calls.lines, killed_at, **BOTH_FEEDS)


@pytest.mark.parametrize("written", [False, True], ids=["not written", "written"])
@pytest.mark.parametrize("nth", [pytest.param(1, marks=pytest.mark.long), 30])
async def test_killed_while_a_request_is_out_it_sends_it_again_under_the_same_key(
    centre: CallCentre, nth: int, *, written: bool
) -> None:
    killed: list[str] = []
    async with running(centre.settings(concurrency=str(CONCURRENCY)), centre.folder) as daemon:

        def kill(incoming: Incoming) -> Reply | None:
            if centre.salesforce.received < nth or killed:
                return None
            killed.append(incoming.key)
            daemon.signal(signal.SIGKILL)
            return Reply(cut="after" if written else "before")

        centre.salesforce.rule = kill
        async with traffic(centre.dsn, per_second=100, records=5) as calls:
            assert await daemon.ended() == -signal.SIGKILL
            killed_at = time.monotonic()
    await recovered(centre, calls.ended, killed_at)

    again = [one for one in centre.salesforce.requests if one.key == killed[0]]
    assert [one.status for one in again] == [0, 200]
    assert again[0].body == again[1].body
