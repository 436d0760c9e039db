"""The local HTTP listener, over real HTTP."""

import asyncio
import math
import platform
import re
import signal
import socket
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from daemon import __version__
from daemon.demo.postgres import create_database
from daemon.demo.standin import Reply
from daemon.ledger.locks import ACTIVE_LOCK
from daemon.web.listener import listening
from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import running


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def get(port: int, path: str) -> tuple[int, str, dict[str, str]]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}") as response,
    ):
        return response.status, await response.text(), dict(response.headers)


def samples(text: str) -> dict[str, float]:
    return {
        sample.name
        + "".join(f"{{{key}={value}}}" for key, value in sample.labels.items()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_metrics_tell_what_was_done_and_what_waits(centre: CallCentre) -> None:
    port = free_port()
    await plain_call(centre.db, 1, record=record_id(1))
    await plain_call(centre.db, 2, record=record_id(2)[:12] + "404")
    centre.salesforce.rule = lambda incoming: (
        Reply(400, "no") if incoming.key == "3-0-0-0" else None
    )
    await plain_call(centre.db, 3, record=record_id(3))
    await plain_call(centre.db, 4, record=None)

    async with running(centre.settings(http_listen=f"127.0.0.1:{port}"), centre.folder) as daemon:
        await centre.until(delivered=1, not_found=1, rejected=1, skipped=1)
        assert (await get(port, "/healthz"))[:2] == (200, "ok\n")
        assert (await get(port, "/readyz"))[:2] == (200, "ready\n")
        status, text, headers = await get(port, "/metrics")
        assert await daemon.stop() == 0

    assert status == 200
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    found = samples(text)
    assert found["callstatsd_lines_total{state=delivered}"] == 1
    assert found["callstatsd_lines_total{state=not_found}"] == 1
    assert found["callstatsd_lines_total{state=skipped}"] == 1
    assert found["callstatsd_lines_total{state=expired}"] == 0
    assert found["callstatsd_requests_total{status=200}"] == 1
    assert found["callstatsd_requests_total{status=400}"] == 1
    assert found["callstatsd_requests_total{status=423}"] == 0
    assert found["callstatsd_lines_taken_total"] == 4
    assert found["callstatsd_lines_pending"] == 0
    assert found["callstatsd_lines_kept{state=rejected}"] == 1
    assert found["callstatsd_end_to_delivered_seconds_count"] == 1
    assert found["callstatsd_active"] == 1
    assert found["callstatsd_database_up{database=ledger}"] == 1
    assert found["callstatsd_paused{reason=unavailable}"] == 0
    assert found["callstatsd_watermark_timestamp_seconds"] > 1.7e9


async def test_metrics_say_which_program_this_is_and_nothing_of_when_it_started(
    centre: CallCentre,
) -> None:
    port = free_port()
    async with running(centre.settings(http_listen=f"127.0.0.1:{port}"), centre.folder) as daemon:
        await daemon.until("daemon.started")
        text = (await get(port, "/metrics"))[1]
        assert await daemon.stop() == 0
    [family] = [
        family
        for family in text_string_to_metric_families(text)
        if family.name == "callstatsd_build_info"
    ]
    [sample] = family.samples
    assert sample.value == 1
    assert sample.labels["version"] == __version__
    assert sample.labels["python"] == platform.python_version()
    assert re.fullmatch("[0-9a-f]{12}", sample.labels["ledger"])
    assert "_created" not in text


async def test_ready_says_why_it_is_not(centre: CallCentre) -> None:
    first, second = free_port(), free_port()
    async with running(centre.settings(http_listen=f"127.0.0.1:{first}"), centre.folder) as active:
        await active.until("daemon.started")
        standby_settings = centre.settings(http_listen=f"127.0.0.1:{second}")
        async with running(standby_settings, centre.folder) as standby:
            await standby.until("daemon.standby")
            assert (await get(second, "/readyz"))[:2] == (503, "standing by\n")
            assert await standby.stop() == 0
        await centre.run("pause")
        await active.until("sender.paused")
        assert (await get(first, "/readyz"))[:2] == (503, "paused: operator\n")
        assert (await get(first, "/healthz"))[0] == 200
        found = samples((await get(first, "/metrics"))[1])
        assert found["callstatsd_paused{reason=operator}"] == 1
        assert found["callstatsd_pauses_total{reason=operator}"] == 1
        assert found["callstatsd_pauses_total{reason=unavailable}"] == 0
        assert await active.stop() == 0


async def test_who_stands_by_again_tells_neither_of_a_pause_nor_of_the_source(
    centre: CallCentre, server: str
) -> None:
    """It is the other one that sends and polls now; what was is not what is."""
    ledger_dsn = await create_database(server, f"{urlsplit(centre.dsn).path[1:]}_ledger")
    apart = {"ledger_dsn": ledger_dsn}
    await centre.run("migrate", **apart)
    port = free_port()
    watched = centre.settings(http_listen=f"127.0.0.1:{port}", **apart)
    async with running(watched, centre.folder) as first:
        await first.until("daemon.started")
        async with running(centre.settings(**apart), centre.folder) as second:
            await second.until("daemon.standby")
            await centre.run("pause", **apart)
            await first.until("sender.paused")
            ledger_db = await asyncpg.connect(ledger_dsn)
            source = urlsplit(centre.dsn).path[1:]
            await ledger_db.execute(f'ALTER DATABASE "{source}" ALLOW_CONNECTIONS false')
            await ledger_db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", source
            )
            await first.until("database.lost", database="source")
            found = samples((await get(port, "/metrics"))[1])
            assert found["callstatsd_paused{reason=operator}"] == 1
            assert found["callstatsd_database_up{database=source}"] == 0
            first.process.send_signal(signal.SIGSTOP)
            await ledger_db.execute(END_THE_LOCK_SESSION)
            await ledger_db.close()
            await second.until("daemon.started")
            first.process.send_signal(signal.SIGCONT)
            await first.until("daemon.standby")
            found = samples((await get(port, "/metrics"))[1])
            assert found["callstatsd_active"] == 0
            assert found["callstatsd_paused{reason=operator}"] == 0
            assert found["callstatsd_database_up{database=source}"] == 1
            assert await second.stop() == 0
            assert await first.stop() == 0


END_THE_LOCK_SESSION = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    f" AND classid = {ACTIVE_LOCK} AND mode = 'ExclusiveLock'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /?q=M\xfcller+49301234567 HTTP/1.1",
        b"GET /?q=" + b"49301234567" * 2000 + b" HTTP/1.1",
        b"GET / HTTP/1.1\r\nAuthorization: Bearer geheim" + b"49301234567" * 2000,
        b"49301234567 geheim",
    ],
    ids=["bytes", "a long address", "a long header", "no HTTP"],
)
async def test_a_visitor_who_speaks_no_http_is_not_quoted(
    request_line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    app = web.Application()
    async with listening(app, ("127.0.0.1", port)):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_line + b"\r\n\r\n")
        answer = await reader.read()
        writer.close()
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
    assert caplog.records == []


async def test_what_was_never_read_is_unknown(centre: CallCentre) -> None:
    port = free_port()
    away = centre.settings(
        ledger_dsn="postgresql://nobody@127.0.0.1:1/none", http_listen=f"127.0.0.1:{port}"
    )
    async with running(away, centre.folder) as daemon:
        await daemon.until("database.lost", database="ledger")
        found = samples((await get(port, "/metrics"))[1])
        assert await daemon.stop() == 0
    assert math.isnan(found["callstatsd_lines_pending"])
    assert math.isnan(found["callstatsd_oldest_pending_seconds"])
    assert found["callstatsd_database_up{database=ledger}"] == 0


async def test_an_address_that_is_taken_ends_nothing(
    centre: CallCentre, db: asyncpg.Connection
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        await plain_call(db, 1, record=record_id(1))
        async with running(centre.settings(http_listen=address), centre.folder) as daemon:
            told = await daemon.until("monitor.unavailable")
            await daemon.until("line.delivered")
            assert await daemon.stop() == 0
    assert told["address"] == address
