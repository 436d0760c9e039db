"""The search of the page, over real HTTP and a real ledger."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.integration.web.test_health import free_port
from tests.support.call_centre import CallCentre
from tests.support.calls import long_id, plain_call, record_id
from tests.support.daemon_process import running
from tests.support.look import Look, get, holder, looking

__all__ = ["holder"]


@pytest.fixture
async def look(dsn: str, db: asyncpg.Connection, holder: None) -> AsyncIterator[Look]:
    async with looking(dsn, db) as look:
        yield look


async def test_a_search_tells_what_show_tells(centre: CallCentre) -> None:
    port = free_port()
    await plain_call(centre.db, 1, record=long_id(1))
    await plain_call(centre.db, 2, record=None)
    settings = centre.settings(http_listen=f"127.0.0.1:{port}")
    async with running(settings, centre.folder) as daemon:
        await centre.until(delivered=1, skipped=1)
        for call in (1, 2, 77):
            shown = await get(port, f"/?q={call}")
            _, told, _ = await centre.run("show", str(call))
            for line in told.splitlines():
                if line.startswith(("Call", "The source", "  delivered", "  skipped")):
                    assert " ".join(line.replace("`", "").split()) in shown.text
            assert f"callstatsd show {call}" in shown.text
        for q in (record_id(1), long_id(1), "1-0-0-0", "%201%20"):
            assert "Salesforce has it" in (await get(port, f"/?q={q}")).text
        assert (
            "The ledger has no line for this record."
            in (await get(port, f"/?q={record_id(9)}")).text
        )
        assert await daemon.stop() == 0


async def test_of_a_call_with_thousands_of_lines_the_first_are_shown(look: Look) -> None:
    record = record_id(1)
    await look.db.execute(
        "INSERT INTO line (call_id, group_id, leg_id, code_id, ordinal, lane, salesforce_id,"
        " call_ended, backfill, state, record, last_error)"
        " SELECT c, 0, n, 0, n, $1, $1, now(), false, 'pending', '{\"CONNRES\":1}',"
        " 'call 4930998877'"
        " FROM generate_series(1, 4) AS c, generate_series(1, 10000 / c) AS n",
        record,
    )
    shown = await look.get("/?q=1")
    assert shown.html.count('<dl class="record">') == 200
    assert "1-0-200-0" in shown.text
    assert "These are the first 200 lines of 10,000; 9,800 are not shown." in shown.text
    assert "callstatsd show 1 --json" in shown.text
    assert "998877" not in shown.html
    assert len(shown.html) < 200_000
    several = await look.get(f"/?q={record}")
    assert "5,000 lines" in several.text
    assert "These are the first 50 lines of 3,333; 3,283 are not shown." in several.text


@pytest.mark.parametrize(
    ("q", "hint"),
    [
        ("9223372036854775808", "too large for a call id"),
        ("0" * 30 + "1", "too large for a call id"),
        ("0035g00000LnZXkAAB", "last three characters"),
        ("0035g00000", "has 15 or 18 letters and digits; this has 10"),
        ("hello world", "Type a call id"),
        ("-5", "Type a call id"),
        ("%00", "Type a call id"),
        ("1%00", "Type a call id"),
        ("%D9%A1", "Type a call id"),
        ("x" * 5000, "this has 5000"),
    ],
)
async def test_what_is_no_id_gets_a_hint(look: Look, q: str, hint: str) -> None:
    shown = await look.get(f"/?q={q}")
    assert shown.status == 200
    assert hint in shown.text
    assert 'aria-invalid="true"' in shown.html
