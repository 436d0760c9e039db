"""A soak from beginning to end: load, faults and samples beside each other, then the audit."""

import asyncio
import sys
import time
from typing import Any

from tests.benchmark.harness import PATIENCE, Harness, cpu_time, descriptors, memory
from tests.benchmark.result import described, this_machine
from tests.soak.acd import Acd
from tests.soak.faults import PlannedFault, planned
from tests.soak.report import Soak
from tests.soak.samples import EVERY, MEGABYTE, Sample
from tests.soak.stage import REQUEST_TIMEOUT, Stage, staged
from tests.support.audit import AuditError, Sent, examine, received

LEDGER = """
SELECT count(*) AS pending,
       coalesce(extract(epoch FROM now() - min(call_ended)), 0)::float8 AS oldest,
       (SELECT coalesce(extract(epoch FROM now() - watermark), 0)::float8
        FROM feed WHERE name = 'statistics') AS watermark
FROM line WHERE state = 'pending'
"""


class Watcher:
    """Samples a stage, and takes over what its stand-in received, so that this stays small."""

    def __init__(self, stage: Stage, acd: Acd, db: Any, every: float) -> None:
        self.stage = stage
        self.acd = acd
        self.db = db
        self.every = every
        self.began = time.monotonic()
        self.samples: list[Sample] = []
        self.sent: list[Sent] = []

    async def watch(self) -> None:
        """Sample for ever; not while one process ends and the next one starts."""
        while True:
            await asyncio.sleep(self.every)
            self.take_received()
            self.stage.alive()
            ledger = await self.db.fetchrow(LEDGER)
            if not self.stage.replacing:
                self.samples.append(self._sample(ledger))
                self._show()

    def take_received(self) -> None:
        self.sent += received(self.stage.salesforce)
        self.stage.salesforce.requests.clear()
        self.stage.salesforce.written.clear()

    def _sample(self, ledger: Any) -> Sample:
        process_id = self.stage.active.process.pid
        return Sample(
            at=time.monotonic() - self.began,
            life=self.stage.lives,
            memory=memory(process_id)[0],
            descriptors=descriptors(process_id),
            cpu=cpu_time(process_id),
            oldest=ledger["oldest"],
            watermark=ledger["watermark"],
            pending=ledger["pending"],
            arrived=self.acd.lines,
            requests=self.stage.salesforce.received,
            repeated=self.stage.salesforce.repeated,
        )

    def _show(self) -> None:
        """Let whoever waits see that it goes on."""
        last = self.samples[-1]
        sys.stderr.write(
            f"{last.at:6.0f} s: {last.arrived:,} lines arrived, {last.pending:,} pending, "
            f"{last.repeated} repeated, {last.memory / MEGABYTE:.1f} MB, "
            f"{last.descriptors} descriptors\n"
        )


async def soak(
    harness: Harness, *, seconds: float, rate: float, seed: int, every: float = EVERY
) -> Soak:
    """Run; the faults that were met are those planned."""
    await harness.prepare()
    async with staged(harness, seed) as stage, stage.site.connection() as db:
        machine = described(this_machine(await db.fetchval("SHOW server_version")))
        acd = Acd(stage.site.dsn, rate=rate, seed=seed)
        watcher = Watcher(stage, acd, db, every)
        faults = planned(seed, seconds)
        watching = asyncio.create_task(watcher.watch())
        try:
            await until_first_failure(watching, load(stage, acd, faults, seconds))
            await until_first_failure(watching, drained(stage, acd))
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        await stage.active.stop()
        watcher.take_received()
        sent = sorted(watcher.sent, key=lambda one: one.started)
        wrong: list[str] = []
        try:
            audit = await examine(db, sent, breaks=stage.breaks, request_timeout=REQUEST_TIMEOUT)
        except AuditError as error:
            audit, wrong = error.audit, error.faults
        return Soak(
            seed=seed,
            samples=watcher.samples,
            met=faults,
            lives=stage.lives,
            repeated=stage.salesforce.repeated,
            audit=audit,
            faults=wrong,
            violations=stage.salesforce.violations,
            machine=machine,
        )


async def until_first_failure(watching: asyncio.Task[None], work: Any) -> None:
    """Wait for some work, or for the watcher to fail."""
    doing = asyncio.ensure_future(work)
    try:
        await asyncio.wait({doing, watching}, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            await watching
        await doing
    finally:
        doing.cancel()
        await asyncio.gather(doing, return_exceptions=True)


async def load(stage: Stage, acd: Acd, faults: list[PlannedFault], seconds: float) -> None:
    """Let lines arrive for so long, and the faults happen meanwhile."""
    began, stop = time.monotonic(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(acd.run(stop))
        for fault in faults:
            await asyncio.sleep(began + fault.at - time.monotonic())
            await stage.meet(fault)
        await asyncio.sleep(began + seconds - time.monotonic())
        stop.set()


async def drained(stage: Stage, acd: Acd) -> None:
    """Wait until the ledger has all lines, and none of them is pending."""
    async with stage.site.connection() as db, asyncio.timeout(PATIENCE):
        while await db.fetchrow(
            "SELECT count(*), count(*) FILTER (WHERE state = 'pending') FROM line"
        ) != (acd.lines, 0):
            await asyncio.sleep(1)
