"""A ledger of a test's own."""

from collections.abc import AsyncIterator

import pytest

from daemon.ledger.store import Ledger, open_ledger


@pytest.fixture
async def ledger(dsn: str) -> AsyncIterator[Ledger]:
    async with open_ledger(dsn, "callstatsd") as opened:
        yield opened
