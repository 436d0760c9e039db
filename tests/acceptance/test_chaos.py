"""Two instances killed, frozen and cut off at random: each line arrives, none twice for nothing."""

import asyncio
import random
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from tests.support.audit import audit
from tests.support.call_centre import CallCentre
from tests.support.daemon_process import PATIENCE, Daemon
from tests.support.proxied_centre import BOTH_FEEDS, Wired, wired
from tests.support.proxy import Mode
from tests.support.traffic import traffic


class Chaos:
    """What happens to two instances of one ledger, drawn from a seed."""

    def __init__(self, wires: Wired, seed: int) -> None:
        self.wires = wires
        self.chance = random.Random(seed)
        self.instances: list[Daemon] = []
        self.frozen: set[Daemon] = set()
        self.counts: Counter[str] = Counter()
        self.log: list[str] = []

    async def start(self) -> None:
        self.instances.append(
            await Daemon.start(
                self.wires.settings(log_level="info", **BOTH_FEEDS), self.wires.centre.folder
            )
        )

    async def run(self, seconds: float) -> None:
        """Let things happen for so long; at the end nothing is frozen or cut any more."""
        deeds = [self.kill, self.freeze, self.cut, self.refuse, self.stall]
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as happening:
            while (left := until - time.monotonic()) > 0:
                await asyncio.sleep(min(left, self.chance.uniform(0.3, 2.0)))
                happening.create_task(self.chance.choices(deeds, [3, 2, 2, 2, 1])[0](left))

    async def kill(self, _left: float) -> None:
        """An instance dies, and its supervisor starts another one."""
        victim = self.chance.choice(self.instances)
        if victim in self.frozen:
            return
        self.instances.remove(victim)
        self.wires.broke()
        if victim.process.returncode is None:
            victim.process.kill()
            self.counts["kills"] += 1
        else:
            self.counts["exits"] += 1
            self.log.append(victim.text[-2000:])
        await victim.ended()
        self.wires.broke()
        await self.start()

    async def freeze(self, left: float) -> None:
        """An instance stands still, for a moment or for longer than its lock lives."""
        alive = [one for one in self.instances if one.process.returncode is None]
        victim = self.chance.choice(alive) if alive else None
        if victim is None or self.frozen:
            return
        self.frozen.add(victim)
        self.wires.broke()
        victim.signal(signal.SIGSTOP)
        self.counts["freezes"] += 1
        try:
            await asyncio.sleep(min(left, self.chance.choice([1.0, 4.0, 7.0, 14.0])))
        finally:
            victim.signal(signal.SIGCONT)
            self.frozen.discard(victim)
        self.wires.broke()

    async def cut(self, _left: float) -> None:
        """All connections of one kind end."""
        name = self.chance.choice(["ledger", "source", "salesforce"])
        self.wires.broke()
        getattr(self.wires, name).cut(reset=self.chance.random() < 0.5)
        self.wires.broke()
        self.counts[f"cuts of {name}"] += 1

    async def refuse(self, left: float) -> None:
        """Something is away for a while."""
        name = self.chance.choice(["ledger", "source", "salesforce"])
        proxy = getattr(self.wires, name)
        if proxy.mode is not Mode.PASS:
            return
        self.wires.broke()
        await proxy.switch(Mode.REFUSE)
        proxy.cut(reset=True)
        self.wires.broke()
        self.counts[f"outages of {name}"] += 1
        await asyncio.sleep(min(left, self.chance.uniform(0.5, 4.0)))
        await proxy.switch(Mode.PASS)

    async def stall(self, left: float) -> None:
        """Something does not answer for a while, or falls silent."""
        name = self.chance.choice(["ledger", "source", "salesforce"])
        proxy = getattr(self.wires, name)
        if proxy.mode is not Mode.PASS:
            return
        mode = self.chance.choice([Mode.STALL, Mode.DEAF])
        self.wires.broke()
        await proxy.switch(mode)
        self.counts[f"{'stalls' if mode is Mode.STALL else 'silences'} of {name}"] += 1
        await asyncio.sleep(min(left, self.chance.uniform(0.5, 8.0)))
        self.wires.broke()
        await proxy.switch(Mode.PASS)

    async def end(self) -> None:
        """Stop both in order."""
        for one in self.instances:
            if one.process.returncode is None:
                await one.until_it_speaks()
                assert await one.stop() == 0, one.text[-2000:]

    async def gone(self) -> None:
        """Whatever failed, no process stays."""
        for one in self.instances:
            if one.process.returncode is None:
                one.process.kill()
            await one.ended()


async def survive(centre: CallCentre, *, seed: int, seconds: float, within: float) -> None:
    centre.salesforce.work = 0.005
    async with wired(centre) as wires, AsyncExitStack() as stack:
        chaos = Chaos(wires, seed)
        stack.push_async_callback(chaos.gone)
        await chaos.start()
        await chaos.start()
        async with traffic(centre.dsn, per_second=40, records=25, callbacks=True) as calls:
            async with asyncio.timeout(PATIENCE):
                await centre.salesforce.until(lambda salesforce: salesforce.received > 0)
            await chaos.run(seconds)
            await calls.end()
        began = time.monotonic()
        await wires.settled(calls.lines, within)
        calm = time.monotonic() - began
        await chaos.end()
        print(f"seed {seed}", dict(chaos.counts), f"settled {calm:.1f} s after", *chaos.log)  # noqa: T201
        assert not chaos.log, "an instance ended by itself"
        found = await audit(centre, breaks=wires.breaks, request_timeout=5.0, callbacks=True)
        print(found)  # noqa: T201


@pytest.mark.parametrize("seconds", [8, pytest.param(15, marks=pytest.mark.long)])
async def test_seconds_of_chaos_lose_and_repeat_nothing_without_reason(
    centre: CallCentre, seconds: float
) -> None:
    await survive(centre, seed=1, seconds=seconds, within=60)


@pytest.mark.long
async def test_two_minutes_of_chaos_lose_and_repeat_nothing_without_reason(
    centre: CallCentre,
) -> None:
    await survive(centre, seed=int(time.time()), seconds=120, within=90)
