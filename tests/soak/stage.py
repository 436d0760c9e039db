"""Where a soak takes place: instances that end, wires that are cut, an endpoint that fails."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from daemon.demo import grants
from daemon.demo.faults import cut_after, cut_before, failed, locked, locked_as_apex, slow
from daemon.demo.standin import TOKEN_PATH, WRITE_PATH, Incoming, Reply, StandIn, serve
from tests.benchmark.harness import Daemon, Harness, Site, daemon, environment
from tests.soak.faults import SHARES, Fault, PlannedFault
from tests.support.audit import UNSETTLED, Break
from tests.support.proxy import Mode, Proxy, proxied

CONCURRENCY = 16
WORK = 0.02
"""Seconds in which the endpoint writes a line."""
REQUEST_TIMEOUT = 5.0
SETTLE_DELAY = 10.0
BEFORE_A_BREAK = 2 * REQUEST_TIMEOUT
"""Seconds: what was answered longer before a break is settled."""


class EndpointFaults:
    """The rule by which the stand-in answers during a fault."""

    def __init__(self, seed: int) -> None:
        self.fault: Fault | None = None
        self._chance = random.Random(seed)

    def __call__(self, _incoming: Incoming) -> Reply | None:
        if self.fault is None or self._chance.random() >= SHARES.get(self.fault, 1.0):
            return None
        match self.fault:
            case Fault.FAILED | Fault.ALL_FAILED:
                return failed()
            case Fault.LOCKED:
                return self._chance.choice([locked, locked_as_apex])()
            case Fault.THROTTLED:
                return Reply(429, "", {"Retry-After": "1"})
            case Fault.SILENT:
                return slow(1.5 * REQUEST_TIMEOUT)
            case Fault.CLOSED:
                return self._chance.choice([cut_before, cut_after])()
        return None


class Stage:
    """One call centre under test; `active` is the instance that sends."""

    def __init__(
        self,
        site: Site,
        salesforce: StandIn,
        wires: dict[str, Proxy],
        start: Callable[[], Awaitable[Daemon]],
        seed: int,
    ) -> None:
        self.site = site
        self.salesforce = salesforce
        self.wires = wires
        self.breaks: list[Break] = []
        self.lives = 1
        self.replacing = False
        self._start = start
        self._rule = EndpointFaults(seed)
        self._chance = random.Random(seed)
        salesforce.rule = self._rule

    async def open(self) -> None:
        """Start the first instance."""
        self.active = await self._start()
        await self.active.until("daemon.started")

    async def meet(self, fault: PlannedFault) -> None:
        """Let a fault happen, from its beginning to its end."""
        match fault.kind:
            case Fault.LEDGER_CUT:
                self._broke()
                self.wires["ledger"].cut(reset=self._chance.random() < 0.5)
                self._broke()
            case Fault.LEDGER_AWAY:
                self._broke()
                await self._away("ledger", fault.seconds)
                self._broke()
            case Fault.SOURCE_AWAY:
                await self._away("source", fault.seconds)
            case Fault.TOKEN_REFUSED:
                await self._refuse_tokens(fault.seconds)
            case Fault.KILLED | Fault.RESTARTED | Fault.TAKEN_OVER:
                await self._replace(fault.kind)
            case _:
                self._rule.fault = fault.kind
                await asyncio.sleep(fault.seconds)
                self._rule.fault = None

    async def _away(self, name: str, seconds: float) -> None:
        """Refuse connections to a database for a while, and end those that are open."""
        await self.wires[name].switch(Mode.REFUSE)
        self.wires[name].cut(reset=True)
        await asyncio.sleep(seconds)
        await self.wires[name].switch(Mode.PASS)

    async def _refuse_tokens(self, seconds: float) -> None:
        self.salesforce.token_rule = lambda _: Reply(400, {"error": "invalid_grant"})
        self.salesforce.expire_tokens()
        await asyncio.sleep(seconds)
        self.salesforce.token_rule = None

    async def _replace(self, kind: Fault) -> None:
        """End the active instance, in order or not, and have another one."""
        self.replacing = True
        if kind is Fault.TAKEN_OVER:
            standby = await self._start()
            await standby.until("daemon.standby")
            await self._kill()
            self.active = standby
        else:
            await (self._kill() if kind is Fault.KILLED else self.active.stop())
            self.active = await self._start()
        await self.active.until("daemon.started")
        self.lives += 1
        self.replacing = False

    async def _kill(self) -> None:
        self._broke()
        self.active.process.kill()
        await self.active.process.wait()
        self._broke()

    def _broke(self) -> None:
        """Note that answers of the last seconds may be lost: so many lines may be repeated."""
        self.breaks.append(Break(time.monotonic(), CONCURRENCY + UNSETTLED, BEFORE_A_BREAK))

    def alive(self) -> None:
        """Raise an error if the instance ended by itself."""
        if not self.replacing and self.active.process.returncode is not None:
            raise RuntimeError(f"the daemon ended:\n{self.active.log.read_text()[-2000:]}")


@asynccontextmanager
async def staged(harness: Harness, seed: int) -> AsyncIterator[Stage]:
    """Make a call centre, and start an instance of the daemon."""
    site = await harness.site("soak")
    salesforce = StandIn(seed=seed, work=WORK)
    async with AsyncExitStack() as stack:
        ledger, ledger_dsn = await stack.enter_async_context(proxied(site.dsn))
        source, source_dsn = await stack.enter_async_context(proxied(site.dsn))
        url = await stack.enter_async_context(serve(salesforce))
        settings = environment(
            site,
            f"{url}{WRITE_PATH}",
            source_dsn=source_dsn,
            ledger_dsn=ledger_dsn,
            auth="client_credentials",
            bearer_token="",
            token_url=f"{url}{TOKEN_PATH}",
            client_id=grants.CLIENT_ID,
            client_secret=grants.CLIENT_SECRET,
            concurrency=str(CONCURRENCY),
            request_timeout=str(REQUEST_TIMEOUT),
            settle_delay=str(SETTLE_DELAY),
        )

        async def start() -> Daemon:
            return await stack.enter_async_context(daemon(harness.folder, settings))

        stage = Stage(site, salesforce, {"ledger": ledger, "source": source}, start, seed)
        await stage.open()
        yield stage
    await harness.drop(site)
