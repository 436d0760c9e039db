"""Alerts of the daemon as a process, killed, replaced and held up.

The invariant: of each number the ACD has at most one event, whatever dies at whatever step; and
each line that stays rejected, expired or invalid is counted by exactly one raised alert.
"""

import asyncio
import signal
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import aiohttp
import pytest

from daemon.demo.acd_standin import AcdRequest, AcdStandIn, serve_acd
from daemon.demo.acd_standin import settings as acd_settings
from daemon.demo.standin import Reply
from daemon.service.alerts import GATHER, LAST_CHANCE, UNHEARD
from tests.integration.web.test_health import free_port
from tests.support.call_centre import STOPPED_IN_ORDER, CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import PATIENCE, Daemon, command, running
from tests.support.load import stretched
from tests.support.preloaded import Process

HOUR = 3600.0
LONG_AGO = datetime(2026, 11, 3, 12, tzinfo=UTC)
LINES = 50


class Ward:
    """A call centre with an ACD; what Salesforce refuses is due for an alert at once."""

    def __init__(self, centre: CallCentre, acd: AcdStandIn, url: str) -> None:
        self.centre = centre
        self.acd = acd
        self.environment = centre.settings() | acd_settings(url.removesuffix("/rest/v1.0/1"))
        self.calls = 0

    async def fail(self) -> None:
        """Let one more line end rejected, as long ago as an alert waits."""
        self.calls += 1
        await plain_call(self.centre.db, self.calls, record=record_id(self.calls))
        await self.centre.until(rejected=self.calls)
        await self.is_due()

    async def is_due(self) -> None:
        """Let so much time pass that what failed is due."""
        await self.centre.db.execute(
            "UPDATE ledger SET alerts_since = '-infinity';"
            f"UPDATE line SET settled_at = settled_at - interval '{GATHER} s'"
        )

    async def passes(self, seconds: float) -> None:
        """Let time pass for all alerts; the last instance need not be waited for."""
        await self.centre.db.execute(
            f"UPDATE alert SET requested_at = requested_at - interval '{seconds} s',"
            f" raised_at = raised_at - interval '{seconds} s';"
            "DELETE FROM instance;" + STOPPED_IN_ORDER
        )

    async def dies(self, point: str, when: str) -> None:
        """Run a daemon that kills itself at that step."""
        process = await Process.start(
            environment=self.environment
            | {"KILL_POINT": point, "KILL_WHEN": when, "KILL_NTH": "1"},
            folder=self.centre.folder,
            descriptors=(DEVNULL,) * 3,
            module="tests.support.killer",
        )
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == -signal.SIGKILL

    def kill_on_create(self, daemon: Daemon, *, written: bool) -> None:
        """Kill the daemon as soon as its request is at the ACD, which does its work or not."""

        def kill(request: AcdRequest) -> Reply | None:
            if request.method != "POST":
                return None
            daemon.signal(signal.SIGKILL)
            return Reply(cut="after" if written else "before")

        self.acd.rule = kill

    @property
    def numbers(self) -> list[str]:
        return [event["UserData"].rpartition("-")[2] for event in self.acd.events]


@pytest.fixture
async def ward(centre: CallCentre) -> AsyncIterator[Ward]:
    acd = AcdStandIn()
    centre.salesforce.rule = lambda _: Reply(400, "no")
    async with serve_acd(acd) as url:
        yield Ward(centre, acd, url)
    assert acd.violations == []


async def test_killed_at_each_step_of_an_alert_the_next_process_raises_it_once(ward: Ward) -> None:
    async with running(ward.environment, ward.centre.folder) as daemon:
        await ward.fail()
        await daemon.until("alert.raised", number=1, rejected=1)
        assert await daemon.stop() == 0
    await ward.passes(HOUR)
    # A backfill raises none; the next `run` does.
    await plain_call(ward.centre.db, 2, record=record_id(2), ended=LONG_AGO)
    window = ("backfill", "--from", "2026-11-03", "--to", "2026-11-04")
    code, _, errors = await command(
        *window, environment=ward.environment, folder=ward.centre.folder
    )
    assert code == 1, errors
    await ward.is_due()
    assert ward.numbers == ["1"]

    await ward.passes(0)
    await ward.dies("number", "after")
    for written in (False, True):
        await ward.passes(UNHEARD)
        async with running(ward.environment, ward.centre.folder) as daemon:
            ward.kill_on_create(daemon, written=written)
            assert await daemon.ended() == -signal.SIGKILL
    ward.acd.rule = None
    await ward.passes(UNHEARD)
    await ward.dies("raised", "before")
    await ward.passes(UNHEARD)
    await ward.centre.db.execute("UPDATE ledger SET held_since = now()")  # a pause holds back none
    async with running(ward.environment, ward.centre.folder) as daemon:
        raised = await daemon.until("alert.raised", number=2, rejected=1)
        assert await daemon.stop() == 0
    assert ward.numbers == ["1", "2"]
    assert raised["acd_events_id"] == ward.acd.events[1]["ID"]


@pytest.mark.parametrize("written", [True, pytest.param(False, marks=pytest.mark.long)])
async def test_an_instance_that_takes_over_looks_for_the_alert_of_the_last_one(
    ward: Ward, *, written: bool
) -> None:
    async with running(ward.environment, ward.centre.folder) as first:
        await first.until("daemon.started")
        async with running(ward.environment, ward.centre.folder) as second:
            await second.until("daemon.standby")
            ward.kill_on_create(first, written=written)
            await ward.fail()
            assert await first.ended() == -signal.SIGKILL
            ward.acd.rule = None
            await second.until("daemon.started")
            await ward.centre.db.execute(
                f"UPDATE alert SET requested_at = requested_at - interval '{UNHEARD} s'"
            )
            await second.until("alert.raised", number=1, rejected=1)
            assert await second.stop() == 0
    assert ward.numbers == ["1"]


async def test_an_acd_that_lies_or_hangs_changes_nothing_for_lines_health_commands_and_stop(
    ward: Ward,
) -> None:
    centre, port = ward.centre, free_port()
    ward.environment["CALLSTATSD_HTTP_LISTEN"] = f"127.0.0.1:{port}"
    arrived, never = asyncio.Event(), asyncio.Event()

    def lie(_: AcdRequest) -> Reply:
        arrived.set()
        return Reply(200, b'{"records": [' + b"[" * 10**6)

    def hang(_: AcdRequest) -> Reply:
        arrived.set()
        return Reply(hold=never)

    delivered = 0
    async with running(ward.environment, centre.folder) as daemon:
        await ward.fail()
        centre.salesforce.rule = None
        for rule in (lie, hang):
            ward.acd.rule = rule
            arrived.clear()
            async with asyncio.timeout(PATIENCE):
                await arrived.wait()
            for _ in range(LINES):
                delivered += 1
                await plain_call(centre.db, 1 + delivered, record=record_id(1 + delivered))
            await centre.until(rejected=1, delivered=delivered)
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{port}/readyz") as response,
            ):
                assert response.status == 200
            code, _, errors = await command(
                "status", environment=ward.environment, folder=centre.folder
            )
            assert (code, errors) == (0, "")
        began = time.monotonic()
        assert await daemon.stop() == 0
        assert time.monotonic() - began < stretched(LAST_CHANCE + 2)
    assert not daemon.seen("request.defect")
    assert not daemon.seen("sender.paused")
