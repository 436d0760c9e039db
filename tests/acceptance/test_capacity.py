"""`python -m tests.capacity`, on a small scale: every figure is measured, and a ledger lives."""

import pytest

from tests.benchmark.harness import open_harness
from tests.capacity.ledger import ledgers
from tests.capacity.life import DAYS, RECORD_DAYS, live
from tests.capacity.sending import cell

LINES = 8100


@pytest.mark.long
async def test_a_ledger_lives_as_retention_leaves_it() -> None:
    with open_harness() as harness:
        await harness.prepare()
        lived = await live(harness, LINES, DAYS + 10)
        async with lived.site.connection() as db:
            states = dict(await db.fetch("SELECT state, count(*) FROM line GROUP BY state"))
            kept = await db.fetchval("SELECT count(record) FROM line")
            oldest = await db.fetchval("SELECT now() - min(call_ended) FROM line")
    assert states == {"delivered": pytest.approx(LINES, rel=0.05)}
    assert kept == pytest.approx(LINES * RECORD_DAYS / DAYS, rel=0.05)
    assert DAYS - 1 <= oldest.days <= DAYS
    assert lived.vacuums


@pytest.mark.long
async def test_every_figure_of_a_ledger_and_of_sending_is_measured() -> None:
    with open_harness() as harness:
        await harness.prepare()
        tables = await ledgers(harness, [LINES], DAYS)
        rate, _, share = (await cell(harness, 4, 0.02)).partition(" ")
    for table in tables:
        (column,) = table.columns.values()
        assert all(column.values())
        assert table.markdown().count("\n") == len(column) + 1
    assert 0 < float(rate.replace(",", "")) <= 4 / 0.02 * 1.05, share
