"""What the status page costs: how long each of its addresses takes, with a million lines."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median, quantiles

import aiohttp
from aiohttp import web

from daemon.ingest.source import Source, open_source
from daemon.ledger.operator import OperatorStore
from daemon.ledger.store import Ledger, open_ledger
from daemon.lines import State
from daemon.settings.model import Settings
from daemon.web.cache import FRESH_FOR, StatusReader
from daemon.web.health import InstanceState
from daemon.web.page import watched
from tests.benchmark import data
from tests.benchmark.harness import Harness, Site
from tests.benchmark.history import BERLIN
from tests.benchmark.result import Effort, Result, at_most
from tests.support.counters import no_autovacuum

LINES = 1_000_000
SPAN = timedelta(days=90)
ACTS = 10_000
WARM, ASKED, ANEW = 5, 100, 20
"""Requests that are not counted; that are; and those that find nothing that was read before."""
FORGOTTEN = FRESH_FOR + 1
"""Seconds after which what was read is read again."""
WITHIN = 50.0
"""Milliseconds that half of the answers may take."""

# Three in a hundred, spread over all of the time.
FAIL = """
UPDATE line SET state = f.state, last_status = f.status, last_error = f.error
FROM (VALUES (0, 'rejected', 400, 'FIELD_CUSTOM_VALIDATION_EXCEPTION: not for +49 30 23125017'),
             (1, 'expired', 500, 'APEX_ERROR: System.DmlException'),
             (2, 'invalid', NULL, 'StatisticsPartA.ID is not a whole number'),
             (3, 'conflict', 409, NULL), (4, 'not_found', 404, NULL),
             (5, 'skipped', NULL, 'no Salesforce id in the code''s or the call''s UserData')
     ) AS f (kind, state, status, error)
WHERE call_id % 200 = f.kind
"""
WAIT = """
UPDATE line SET state = 'pending', settled_at = NULL, attempts = 0, last_status = NULL,
                last_error = NULL, record = '{}', pending_since = now()
WHERE call_ended > $1 AND call_id % 2 = 0
"""
DO = """
INSERT INTO act (kind, who, states, began_at, ended_at, lines)
SELECT 'requeue', 'alice@acd1', '{rejected}', now() - n * interval '10 min', now(), 1
FROM generate_series($1::integer, 1, -1) AS n
"""
MIDDLE = """
SELECT concat_ws('-', call_id, group_id, leg_id, code_id) FROM line WHERE state = $1
ORDER BY call_ended OFFSET (SELECT count(*) / 2 FROM line WHERE state = $1) LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Asks for pages over one connection; both databases are open."""

    settings: Settings
    source: Source
    ledger: Ledger
    session: aiohttp.ClientSession

    @asynccontextmanager
    async def visiting(self) -> AsyncIterator[str]:
        """Serve the page by an application that has read nothing; yields its address."""
        async with StatusReader(OperatorStore(self.ledger.database)) as reader:
            state = InstanceState(active=True)
            app = watched(self.settings, self.source, self.ledger, state, reader)
            runner = web.AppRunner(app)
            await runner.setup()
            try:
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                yield f"http://127.0.0.1:{runner.addresses[0][1]}"
            finally:
                await runner.cleanup()

    async def ask(self, address: str) -> float:
        """Seconds of one request."""
        began = time.perf_counter()
        async with self.session.get(address) as answer:
            await answer.read()
        seconds = time.perf_counter() - began
        assert answer.status == 200, address
        return seconds


async def page(harness: Harness, effort: Effort) -> list[Result]:
    """Ask for each address over and over, one request at a time.

    What everybody sees is read at most every two seconds, so most requests for `/` read nothing;
    the first row is of those that do.
    """
    lines = effort.of(LINES, 20_000)
    site = await harness.site("page")
    await _fill(site, lines)
    async with _visitor(site) as visitor, visitor.visiting() as base:
        anew = []
        for _ in range(1 + ANEW):
            anew.append(await visitor.ask(f"{base}/"))
            await asyncio.sleep(FORGOTTEN)
        results = [_result("/, all read anew", anew[1:])]
        for shown, path in (await _paths(site)).items():
            seconds = [await visitor.ask(f"{base}{path}") for _ in range(WARM + ASKED)]
            results.append(_result(shown, seconds[WARM:]))
    await harness.drop(site)
    return results


def _result(shown: str, seconds: list[float]) -> Result:
    milliseconds = [1000 * one for one in seconds]
    most = quantiles(milliseconds, n=20)[-1]
    return Result(
        shown,
        f"95 of 100: {most:.1f} ms",
        "",
        [median(milliseconds)],
        at_most(WITHIN, "ms"),
        {"milliseconds": milliseconds},
    )


async def _fill(site: Site, lines: int) -> None:
    """Make lines of 90 days, of which 2 % wait, half of the newest, and commands of operators."""
    calls = data.calls_of(lines)
    now = datetime.now(UTC)
    async with site.connection() as db:
        await data.add(db, data.Calls(calls, now, SPAN, calls // 3), taken=True)
        await db.execute(FAIL)
        await db.execute(WAIT, now - SPAN / 25)
        await db.execute(DO, ACTS)
        await db.execute("UPDATE feed SET watermark = now()")
    await no_autovacuum(site.dsn)
    await site.settle_down()


@asynccontextmanager
async def _visitor(site: Site) -> AsyncIterator[Visitor]:
    async with AsyncExitStack() as stack:
        yield Visitor(
            Settings(source_dsn=site.dsn, ledger_dsn=site.dsn),
            await stack.enter_async_context(open_source(site.dsn, (data.SOURCE,), BERLIN, None)),
            await stack.enter_async_context(open_ledger(site.dsn, data.LEDGER)),
            await stack.enter_async_context(aiohttp.ClientSession()),
        )


async def _paths(site: Site) -> dict[str, str]:
    """The addresses, by what the table says of them."""
    paths = {"/": "/", "/live": "/live"}
    async with site.connection() as db:
        for state in State:
            day = datetime.now(UTC).date() - timedelta(days=1 if state is State.PENDING else 40)
            after = await db.fetchval(MIDDLE, state)
            paths |= {
                f"/lines?state={state}": f"/lines?state={state}",
                f"{state}, of one day": f"/lines?state={state}&day={day}",
                f"{state}, from the middle on": f"/lines?state={state}&after={after}",
            }
        call, record = await db.fetchrow(
            "SELECT call_id, salesforce_id FROM line WHERE state = 'rejected' LIMIT 1"
        )
    return paths | {
        "/acts": "/acts",
        "/acts, from the middle on": f"/acts?after={ACTS // 2}",
        "/?q= of a call": f"/?q={call}",
        "/?q= of a Salesforce record": f"/?q={record}",
    }
