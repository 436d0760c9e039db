"""The page as it is served over HTTP, with a real ledger behind it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
import asyncpg
import pytest
from aiohttp import web

from daemon.ingest.source import open_source
from daemon.language import Language, of_header
from daemon.ledger.instance import InstanceStatus, Tenure
from daemon.ledger.locks import ACTIVE_LOCK
from daemon.ledger.operator import OperatorStore
from daemon.ledger.store import Ledger, open_ledger
from daemon.lines import FeedName, LineKey, NewLine, State
from daemon.settings.model import Settings
from daemon.web import page
from daemon.web.cache import StatusReader
from daemon.web.health import InstanceState
from tests.support.calls import record_id
from tests.support.markup import Strict

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 20, 12, 34, 56, tzinfo=UTC)


@dataclass
class Shown:
    """An answer of the page."""

    status: int
    headers: dict[str, str]
    html: str

    @property
    def text(self) -> str:
        """What people read; the markup must be without fault."""
        read = Strict(self.html)
        assert read.faults == []
        return read.text


async def get(port: int, path: str = "/", method: str = "GET", **headers: str) -> Shown:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{port}{path}", headers=headers) as answer,
    ):
        return Shown(answer.status, dict(answer.headers), await answer.text())


@dataclass
class Look:
    """A page that is served, and the ledger behind it."""

    port: int
    condition: InstanceState
    ledger: Ledger
    db: asyncpg.Connection

    async def get(self, path: str = "/", method: str = "GET", **headers: str) -> Shown:
        return await get(self.port, path, method, **headers)

    async def line(self, call: int, state: State, **columns: Any) -> None:
        """A line in that state, settled now unless told otherwise."""
        record = columns.pop("record", '{"CallerID":"4930998877"}')
        entry = NewLine(
            LineKey(call, 0, 0, columns.pop("code", 0)), 1, record_id(call), record_id(call),
            NOW + timedelta(seconds=call), state, record,
        )  # fmt: skip
        await self.ledger.take(
            FeedName.STATISTICS, [entry], backfill=columns.pop("backfill", False)
        )
        for name, value in columns.items():
            await self.db.execute(
                f"UPDATE line SET {name} = $1 WHERE call_id = $2 AND code_id = $3",
                value, call, entry.key.code_id,
            )  # fmt: skip

    async def beat(self, reason: str | None = None, retry_in: float | None = None) -> None:
        """Let the active instance say what it does."""
        state = "paused" if reason else "sending"
        await self.ledger.write_heartbeat(
            InstanceStatus("acd-01", 4711, "0", 1, state, reason, retry_in), Tenure()
        )


@asynccontextmanager
async def looking(
    dsn: str,
    db: asyncpg.Connection,
    ledger_dsn: str | None = None,
    seconds: float = page.TIMEOUT,
    port: int = 0,
    choose_language: Callable[[str], Language] = of_header,
    **more: Any,
) -> AsyncIterator[Look]:
    settings = Settings(source_dsn=dsn, ledger_dsn=ledger_dsn or dsn, **more)
    condition = InstanceState(active=True)
    async with (
        open_source(dsn, ("jtelstats",), BERLIN, None) as source,
        open_ledger(settings.ledger_dsn.get_secret_value(), "callstatsd") as ledger,
        open_ledger(dsn, "callstatsd") as straight,
        StatusReader(OperatorStore(ledger.database)) as reader,
    ):
        app = page.watched(settings, source, ledger, condition, reader, seconds, choose_language)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            yield Look(runner.addresses[0][1], condition, straight, db)
        finally:
            await runner.cleanup()


@pytest.fixture
async def holder(dsn: str) -> AsyncIterator[None]:
    """Somebody who holds the ledger's lock."""
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "callstatsd"})
    await connection.fetch(
        "SELECT pg_advisory_lock($1::integer, 'ledger'::regclass::oid::bigint::bit(32)::integer)",
        ACTIVE_LOCK,
    )
    yield
    await connection.close()
