"""The local HTTP listener, over real HTTP."""

import re
import socket
from pathlib import Path

import aiohttp
import asyncpg
from prometheus_client.parser import text_string_to_metric_families

from daemon import metrics
from daemon.demo.standin import Reply
from tests.calls import plain_call, record_id
from tests.daemon_process import running
from tests.whole import Site

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


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


async def test_metrics_tell_what_was_done_and_what_waits(site: Site) -> None:
    port = free_port()
    await plain_call(site.db, 1, record=record_id(1))
    await plain_call(site.db, 2, record=record_id(2)[:12] + "404")
    site.salesforce.rule = lambda incoming: Reply(400, "no") if incoming.key == "3-0-0-0" else None
    await plain_call(site.db, 3, record=record_id(3))
    await plain_call(site.db, 4, record=None)

    async with running(site.settings(http_listen=f"127.0.0.1:{port}"), site.folder) as daemon:
        await site.until(delivered=1, not_found=1, rejected=1, skipped=1)
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
    assert found["callstatsd_lines_taken_total"] == 4
    assert found["callstatsd_lines_pending"] == 0
    assert found["callstatsd_lines_kept{state=rejected}"] == 1
    assert found["callstatsd_end_to_delivered_seconds_count"] == 1
    assert found["callstatsd_active"] == 1
    assert found["callstatsd_database_up{database=ledger}"] == 1
    assert found["callstatsd_paused{reason=unavailable}"] == 0
    assert found["callstatsd_watermark_timestamp_seconds"] > 1.7e9


async def test_ready_says_why_it_is_not(site: Site) -> None:
    first, second = free_port(), free_port()
    async with running(site.settings(http_listen=f"127.0.0.1:{first}"), site.folder) as active:
        await active.until("daemon.started")
        standby_settings = site.settings(http_listen=f"127.0.0.1:{second}")
        async with running(standby_settings, site.folder) as standby:
            await standby.until("daemon.standby")
            assert (await get(second, "/readyz"))[:2] == (503, "standing by\n")
            assert await standby.stop() == 0
        await site.run("pause")
        await active.until("sender.paused")
        assert (await get(first, "/readyz"))[:2] == (503, "paused: operator\n")
        assert (await get(first, "/healthz"))[0] == 200
        found = samples((await get(first, "/metrics"))[1])
        assert found["callstatsd_paused{reason=operator}"] == 1
        assert found["callstatsd_pauses_total{reason=operator}"] == 1
        assert found["callstatsd_pauses_total{reason=unavailable}"] == 0
        assert await active.stop() == 0


async def test_an_address_that_is_taken_ends_nothing(site: Site, db: asyncpg.Connection) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        await plain_call(db, 1, record=record_id(1))
        async with running(site.settings(http_listen=address), site.folder) as daemon:
            told = await daemon.until("monitor.unavailable")
            await daemon.until("line.delivered")
            assert await daemon.stop() == 0
    assert told["address"] == address


def test_the_readme_lists_exactly_the_metrics_that_exist() -> None:
    listed = set(re.findall(r"`(callstatsd_[a-z_]+)", README))
    exist = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in metrics.REGISTRY.collect()
    }
    assert listed == exist
    assert all(family.documentation for family in metrics.REGISTRY.collect())
