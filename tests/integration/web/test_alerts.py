"""Alerts on the page and in the metrics, over real HTTP and a real ledger."""

import math
from typing import Any

import asyncpg

from daemon.lines import State
from tests.integration.web.test_health import samples
from tests.support.look import holder, looking

__all__ = ["holder"]

ON: dict[str, Any] = {
    "acd_url": "https://acd.example.com/rest/v1.0/1",
    "acd_token": "t",
    "alert_group_id": 235,
}
WAITING = "callstatsd_alert_lines_waiting"


async def test_while_alerts_are_off_nothing_is_said_of_them(
    dsn: str, db: asyncpg.Connection, holder: None
) -> None:
    async with looking(dsn, db) as look:
        await look.line(1, State.REJECTED)
        assert "lert" not in (await look.get()).text
        assert math.isnan(samples((await look.get("/metrics")).html)[WAITING])


async def test_the_failures_say_which_alert_was_raised_and_what_waits(
    dsn: str, db: asyncpg.Connection, holder: None
) -> None:
    async with looking(dsn, db, **ON) as look:
        await look.line(1, State.REJECTED)
        await db.execute(
            "UPDATE ledger SET alerts_since = '-infinity';"
            "INSERT INTO alert (number, rejected, expired, invalid, requested_at, raised_at,"
            " acd_events_id) VALUES (1, 3, 0, 0, now(), '2026-11-20T10:00:00Z', 102039)"
        )
        shown = await look.get()
        failures = shown.html.partition('id="failures"')[2].partition("</section>")[0]
        assert (
            '<p id="alert" class="quiet">Alert raised at 2026-11-20 11:00 about 3 lines '
            "(event 102039 of the ACD). 1 line waits for the next one.</p>"
        ) in failures
        assert shown.text
        assert samples((await look.get("/metrics")).html)[WAITING] == 1
    await db.execute(
        "INSERT INTO alert (number, rejected, expired, invalid, requested_at, given_up_at, error)"
        " VALUES (2, 1, 0, 0, now(), now(), 'no response from the ACD')"
    )
    async with looking(dsn, db, **ON) as look:
        shown = await look.get()
        assert '<p id="alert" class="notice warn">' in shown.html
        assert "The last try failed: no response from the ACD. callstatsd check says" in shown.text
