"""What systemd is told, over a datagram socket of the test's own."""

import asyncio
import re
import signal
import socket
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from daemon.demo.standin import Reply
from daemon.ledger.instance import OperatorPause
from daemon.ledger.operator import Backlog, LedgerStatus
from daemon.service.lifecycle import status_line, watchdog_seconds
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import PATIENCE, running
from tests.support.expected import BERLIN
from tests.support.load import stretched
from tests.support.proxy import Mode
from tests.support.whole import Site
from tests.support.wired import wired

WATCHDOG = 0.4
"""Seconds; the daemon tells four times as often while it gets around."""


class Systemd:
    """The socket at which systemd hears; `heard` are all messages so far, a line each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[str] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def settings(self, settings: dict[str, str]) -> dict[str, str]:
        """Settings of a daemon that systemd watches."""
        return settings | {
            "NOTIFY_SOCKET": str(self.path),
            "WATCHDOG_USEC": f"{WATCHDOG * 1e6:.0f}",
        }

    async def next(self) -> list[str]:
        message = await asyncio.get_running_loop().sock_recv(self.socket, 4096)
        lines = message.decode().splitlines()
        self.heard += lines
        return lines

    async def until(self, wanted: Callable[[str], bool] | str, count: int = 1) -> str:
        """Wait until so many lines, from now on, are as wanted; returns the last one."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    for line in await self.next():
                        count -= line == wanted if isinstance(wanted, str) else wanted(line)
                        if not count:
                            return line
        except TimeoutError:
            pytest.fail(f"waited in vain for {wanted} in {self.heard[-20:]}")

    async def silence(self) -> None:
        """Wait until no WATCHDOG=1 has come for twice the time in which systemd wants one."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    async with asyncio.timeout(stretched(2 * WATCHDOG)):
                        await self.until("WATCHDOG=1")
                except TimeoutError:
                    return


@pytest.fixture
async def systemd(tmp_path: Path) -> AsyncIterator[Systemd]:
    systemd = Systemd(tmp_path / "notify")
    try:
        yield systemd
    finally:
        systemd.socket.close()


async def test_systemd_hears_of_ready_counts_and_stopping(site: Site, systemd: Systemd) -> None:
    await plain_call(site.db, 1, record=record_id(1))
    await plain_call(site.db, 2, record=record_id(2))
    await plain_call(site.db, 3, record=record_id(3))
    answers = {"2-0-0-0": Reply(400, "no"), "3-0-0-0": Reply(423)}
    site.salesforce.rule = lambda incoming: answers.get(incoming.key)
    async with running(systemd.settings(site.settings()), site.folder) as daemon:
        await systemd.until("READY=1")
        await systemd.until(
            lambda line: bool(
                re.fullmatch(
                    r"STATUS=sending: 1 pending, oldest \d+ s, 1 delivered since start, "
                    r"1 need action, taken up to [\d:]{8}",
                    line,
                )
            )
        )
        await systemd.until("WATCHDOG=1")
        daemon.signal(signal.SIGTERM)
        await systemd.until("STOPPING=1")
        assert await daemon.ended() == 0
    assert systemd.heard.count("READY=1") == 1


async def test_a_pause_is_told_with_its_reason(site: Site, systemd: Systemd) -> None:
    await site.run("pause", "--reason", "release tonight")
    async with running(systemd.settings(site.settings()), site.folder) as daemon:
        await systemd.until(lambda line: "paused (operator: release tonight): 0 pending" in line)
        await systemd.until("WATCHDOG=1", 3)
        assert await daemon.stop() == 0


async def test_an_instance_that_stands_by_gets_around(site: Site, systemd: Systemd) -> None:
    async with running(site.settings(), site.folder) as active:
        await active.until("daemon.started")
        async with running(systemd.settings(site.settings()), site.folder) as standby:
            await systemd.until("READY=1")
            await systemd.until("STATUS=standing by: another instance has the ledger")
            await systemd.until("WATCHDOG=1", 3)
            assert await active.stop() == 0
            await systemd.until(lambda line: line.startswith("STATUS=sending: "))
            await systemd.until("WATCHDOG=1", 3)
            assert await standby.stop() == 0
    assert systemd.heard.count("READY=1") == 1


async def test_an_instance_that_waits_for_its_ledger_at_the_start_asks_for_more_time(
    site: Site, systemd: Systemd
) -> None:
    async with wired(site) as wires:
        await wires.ledger.switch(Mode.REFUSE)
        async with running(systemd.settings(wires.settings()), site.folder) as daemon:
            await systemd.until("STATUS=waiting for the ledger database")
            await systemd.until("EXTEND_TIMEOUT_USEC=90000000", 2)
            assert "READY=1" not in systemd.heard
            await wires.ledger.switch(Mode.PASS)
            await systemd.until("READY=1")
            await systemd.until("WATCHDOG=1", 3)
            assert await daemon.stop() == 0


@pytest.mark.parametrize("which", ["source", "ledger"])
async def test_a_database_that_is_away_is_no_reason_for_a_restart(
    site: Site, systemd: Systemd, which: str
) -> None:
    async with wired(site) as wires:
        proxy = getattr(wires, which)
        async with running(systemd.settings(wires.settings()), site.folder) as daemon:
            await systemd.until("READY=1")
            await proxy.switch(Mode.REFUSE)
            proxy.cut(reset=True)
            await daemon.until("database.lost", database=which)
            await systemd.until("WATCHDOG=1", 5)
            await proxy.switch(Mode.PASS)
            await daemon.until("database.back", database=which)
            await systemd.until("WATCHDOG=1", 3)
            assert await daemon.stop() == 0


@pytest.mark.parametrize(
    "table", ["callstatsd.line", "jtelstats.StatisticsPartA"], ids=["sender", "poller"]
)
async def test_a_part_that_does_not_get_around_is_told_by_silence(
    site: Site, systemd: Systemd, table: str
) -> None:
    """Somebody locks a table: the one part waits for it, the other turns all the same."""
    async with running(systemd.settings(site.settings()), site.folder) as daemon:
        await systemd.until("WATCHDOG=1", 3)
        connection = await asyncpg.connect(site.dsn)
        try:
            async with connection.transaction():
                await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
                await systemd.silence()
        finally:
            await connection.close()
        await systemd.until("WATCHDOG=1", 3)
        assert await daemon.stop() == 0


async def test_a_poller_that_rests_for_long_is_not_missed(site: Site, systemd: Systemd) -> None:
    settings = systemd.settings(site.settings(poll_interval="PT10M"))
    async with running(settings, site.folder) as daemon:
        await systemd.until("WATCHDOG=1", 5)
        assert await daemon.stop() == 0


async def test_a_drain_asks_for_time_as_long_as_a_request_is_in_flight(
    site: Site, systemd: Systemd
) -> None:
    await plain_call(site.db, 1, record=record_id(1))
    answer = asyncio.Event()
    site.salesforce.rule = lambda _: Reply(200, hold=answer)
    async with running(systemd.settings(site.settings()), site.folder) as daemon:
        await site.salesforce.until(lambda salesforce: salesforce.received == 1)
        daemon.signal(signal.SIGTERM)
        await systemd.until("STOPPING=1")
        await systemd.until("EXTEND_TIMEOUT_USEC=90000000", 3)
        assert systemd.heard[-2] == "WATCHDOG=1"
        answer.set()
        assert await daemon.ended() == 0
    assert (await site.states())["delivered"] == 1


async def test_a_process_that_its_watchdog_ends_says_where_it_stood(site: Site) -> None:
    async with running(site.settings(), site.folder) as daemon:
        await daemon.until("daemon.started")
        daemon.signal(signal.SIGABRT)
        assert await daemon.ended() == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in daemon.text
    assert "/daemon/cli/commands.py" in daemon.text


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "600000000"}, 600.0),
        ({"WATCHDOG_USEC": "600000000", "WATCHDOG_PID": "7"}, 600.0),
        ({"WATCHDOG_USEC": "600000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_by_the_process_that_it_watches(
    environment: dict[str, str], seconds: float | None
) -> None:
    assert watchdog_seconds(environment, 7) == seconds


NOW = datetime(2026, 11, 20, 14, 5, tzinfo=BERLIN)
NOTHING = Backlog({"pending": 0, "rejected": 0, "expired": 0, "invalid": 0}, None)


def status(watermark: datetime | None, held: OperatorPause | None = None) -> LedgerStatus:
    nothing: dict[str, Any] = dict.fromkeys(LedgerStatus.__slots__)
    return LedgerStatus(**nothing | {"watermark": watermark, "held": held, "active": True})


@pytest.mark.parametrize(
    ("waiting", "watermark", "paused", "held", "said"),
    [
        (
            Backlog({"pending": 12, "rejected": 0, "expired": 0, "invalid": 0}, 3.2),
            datetime(2026, 11, 20, 13, 3, 20, tzinfo=UTC),
            None,
            None,
            "sending: 12 pending, oldest 3 s, 1,204 delivered since start, taken up to 14:03:20",
        ),
        (
            Backlog({"pending": 20000, "rejected": 2, "expired": 1, "invalid": 0}, 4000.0),
            NOW - timedelta(days=1),
            ("api_limit", 892.4),
            None,
            (
                "paused (api_limit), next try in 15 min: 20,000 pending, oldest 67 min, "
                "1,204 delivered since start, 3 need action, "
                "taken up to 2026-11-19 14:05:00"
            ),
        ),
        (
            NOTHING,
            None,
            ("operator", None),
            OperatorPause(NOW, "release tonight"),
            "paused (operator: release tonight): 0 pending, 1,204 delivered since start",
        ),
        (
            NOTHING,
            None,
            ("operator", None),
            OperatorPause(NOW, None),
            "paused (operator): 0 pending, 1,204 delivered since start",
        ),
    ],
)
def test_the_status_line_says_what_waits_and_why(
    waiting: Backlog,
    watermark: datetime | None,
    paused: tuple[str, float | None] | None,
    held: OperatorPause | None,
    said: str,
) -> None:
    assert status_line(waiting, status(watermark, held), paused, 1204, NOW) == said
