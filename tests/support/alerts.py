"""Alerts without a daemon: a ledger, a stand-in for the ACD, and time that passes when told to."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg

from daemon.acd.events import AcdEvents
from daemon.delivery.backoff import Backoff
from daemon.demo.acd_standin import TOKEN, AcdStandIn, serve_acd
from daemon.ledger.store import Ledger, open_ledger
from daemon.salesforce.client import open_session
from daemon.service.alerts import AlertOptions, Alerts

GROUP = 235
HOUR = 3600.0
LINK = "https://status.example.com/"
AT_ONCE = Backoff(0.0, 0.0, jitter=lambda _: 0.0)


class Watch(NamedTuple):
    ledger: Ledger
    acd: AcdStandIn
    client: AcdEvents
    db: asyncpg.Connection

    def alerts(self, group: int = GROUP, link: str = LINK) -> Alerts:
        """Alerts of a process that has just begun."""
        return Alerts(self.ledger, self.client, AlertOptions(group, HOUR, link), AT_ONCE)

    async def turn(self) -> None:
        await self.alerts().turn(gather=0.0)

    async def fail(self, *numbers: int, state: str = "rejected", feed: str = "statistics") -> None:
        await self.db.executemany(
            """
            INSERT INTO line (call_id, group_id, leg_id, code_id, feed, ordinal, lane, call_ended,
                              backfill, state, settled_at)
            VALUES ($1, 0, 0, 0, $3, 1, 'lane', now(), false, $2, now())
            """,
            [(number, state, feed) for number in numbers],
        )

    async def passes(self, seconds: float) -> None:
        """Let time pass for all alerts."""
        await self.db.execute(
            """
            UPDATE alert
            SET requested_at = requested_at - $1 * interval '1 second',
                retry_at = retry_at - $1 * interval '1 second',
                raised_at = raised_at - $1 * interval '1 second',
                given_up_at = given_up_at - $1 * interval '1 second'
            """,
            seconds,
        )

    @property
    def created(self) -> list[dict[str, Any]]:
        return [json.loads(each.body) for each in self.acd.requests if each.method == "POST"]

    @property
    def subjects(self) -> list[str]:
        return [event["Subject"].removeprefix("callstatsd: ") for event in self.acd.events]

    @property
    def numbers(self) -> list[int]:
        return [int(event["UserData"].rpartition("-")[2]) for event in self.acd.events]

    def asked(self) -> list[str]:
        """Return the methods of the requests since the last call."""
        methods = [request.method for request in self.acd.requests]
        self.acd.requests.clear()
        return methods


@asynccontextmanager
async def watching(dsn: str, db: asyncpg.Connection) -> AsyncIterator[Watch]:
    """Alerts are on; a line that failed before is in the ledger."""
    standin = AcdStandIn()
    async with (
        serve_acd(standin) as url,
        open_session("1", 2.0) as session,
        open_ledger(dsn, "callstatsd") as ledger,
    ):
        watch = Watch(ledger, standin, AcdEvents(session, url, TOKEN), db)
        await watch.fail(1)
        await watch.turn()
        yield watch
    assert standin.violations == []
