"""Messages to systemd, over a datagram socket of the test's own."""

import asyncio
import re
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import pytest

from daemon.demo.standin import Reply
from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import PATIENCE, running
from tests.support.load import stretched
from tests.support.proxied_centre import wired
from tests.support.proxy import Mode

WATCHDOG = 0.4
"""Seconds; the daemon notifies four times as often while it makes progress."""


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


async def test_systemd_hears_of_ready_counts_and_stopping(
    centre: CallCentre, systemd: Systemd
) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    await plain_call(centre.db, 2, record=record_id(2))
    await plain_call(centre.db, 3, record=record_id(3))
    answers = {"2-0-0-0": Reply(400, "no"), "3-0-0-0": Reply(423)}
    centre.salesforce.rule = lambda incoming: answers.get(incoming.key)
    async with running(systemd.settings(centre.settings()), centre.folder) as daemon:
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


async def test_a_pause_is_told_with_its_reason(centre: CallCentre, systemd: Systemd) -> None:
    await centre.run("pause", "--reason", "release tonight")
    async with running(systemd.settings(centre.settings()), centre.folder) as daemon:
        await systemd.until(lambda line: "paused (operator: release tonight): 0 pending" in line)
        await systemd.until("WATCHDOG=1", 3)
        assert await daemon.stop() == 0


async def test_an_instance_that_stands_by_gets_around(centre: CallCentre, systemd: Systemd) -> None:
    async with running(centre.settings(), centre.folder) as active:
        await active.until("daemon.started")
        async with running(systemd.settings(centre.settings()), centre.folder) as standby:
            await systemd.until("READY=1")
            await systemd.until("STATUS=standing by: another instance has the ledger")
            await systemd.until("WATCHDOG=1", 3)
            assert await active.stop() == 0
            await systemd.until(lambda line: line.startswith("STATUS=sending: "))
            await systemd.until("WATCHDOG=1", 3)
            assert await standby.stop() == 0
    assert systemd.heard.count("READY=1") == 1


async def test_an_instance_that_waits_for_its_ledger_at_the_start_asks_for_more_time(
    centre: CallCentre, systemd: Systemd
) -> None:
    async with wired(centre) as wires:
        await wires.ledger.switch(Mode.REFUSE)
        async with running(systemd.settings(wires.settings()), centre.folder) as daemon:
            await systemd.until("STATUS=waiting for the ledger database")
            await systemd.until("EXTEND_TIMEOUT_USEC=90000000", 2)
            assert "READY=1" not in systemd.heard
            await wires.ledger.switch(Mode.PASS)
            await systemd.until("READY=1")
            await systemd.until("WATCHDOG=1", 3)
            assert await daemon.stop() == 0


@pytest.mark.parametrize("which", ["source", "ledger"])
async def test_a_database_that_is_away_is_no_reason_for_a_restart(
    centre: CallCentre, systemd: Systemd, which: str
) -> None:
    async with wired(centre) as wires:
        proxy = getattr(wires, which)
        async with running(systemd.settings(wires.settings()), centre.folder) as daemon:
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
async def test_a_loop_without_progress_stops_feeding_the_watchdog(
    centre: CallCentre, systemd: Systemd, table: str
) -> None:
    """Somebody locks a table: the one part waits for it, the other turns all the same."""
    async with running(systemd.settings(centre.settings()), centre.folder) as daemon:
        await systemd.until("WATCHDOG=1", 3)
        connection = await asyncpg.connect(centre.dsn)
        try:
            async with connection.transaction():
                await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
                await systemd.silence()
        finally:
            await connection.close()
        await systemd.until("WATCHDOG=1", 3)
        assert await daemon.stop() == 0


async def test_a_poller_that_rests_for_long_is_not_missed(
    centre: CallCentre, systemd: Systemd
) -> None:
    settings = systemd.settings(centre.settings(poll_interval="PT10M"))
    async with running(settings, centre.folder) as daemon:
        await systemd.until("WATCHDOG=1", 5)
        assert await daemon.stop() == 0


async def test_a_drain_asks_for_time_as_long_as_a_request_is_in_flight(
    centre: CallCentre, systemd: Systemd
) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    answer = asyncio.Event()
    centre.salesforce.rule = lambda _: Reply(200, hold=answer)
    async with running(systemd.settings(centre.settings()), centre.folder) as daemon:
        await centre.salesforce.until(lambda salesforce: salesforce.received == 1)
        daemon.signal(signal.SIGTERM)
        await systemd.until("STOPPING=1")
        await systemd.until("EXTEND_TIMEOUT_USEC=90000000", 3)
        assert systemd.heard[-2] == "WATCHDOG=1"
        answer.set()
        assert await daemon.ended() == 0
    assert (await centre.states())["delivered"] == 1


async def test_a_process_that_its_watchdog_ends_says_where_it_stood(centre: CallCentre) -> None:
    async with running(centre.settings(), centre.folder) as daemon:
        await daemon.until("daemon.started")
        daemon.signal(signal.SIGABRT)
        assert await daemon.ended() == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in daemon.text
    assert "/daemon/cli/commands.py" in daemon.text
