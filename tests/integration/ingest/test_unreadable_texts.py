"""A text that the source cannot give spoils its own call, and holds up no other."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest
from structlog.testing import capture_logs

from daemon import logs
from daemon.demo.rows import load
from daemon.ingest.filters import Filters
from daemon.ingest.intake import Intake
from daemon.ingest.readiness import Window
from daemon.ingest.source import open_source
from daemon.ingest.statistics import RecordOptions, StatisticsFeed
from daemon.ledger.acts import Act, ActKind
from daemon.lines import LineKey, State
from daemon.service.backfill import Backfill, Period
from tests.support.expected import BERLIN
from tests.support.rows import RECORD, at, call, leg, sample
from tests.support.site import LONG_AGO, RULES, SENDING, Site, without_encoding
from tests.support.taking import take


@pytest.fixture
async def any_bytes(site: Site, server: str) -> str:
    """The DSN of a source in SQL_ASCII: takes any bytes, and refuses to give what is no UTF-8."""
    return await without_encoding(site.source_dsn, server)


@asynccontextmanager
async def over(
    site: Site, dsn: str, options: RecordOptions = SENDING
) -> AsyncIterator[tuple[asyncpg.Connection, StatisticsFeed, Intake]]:
    """A connection to that source, its feed, and an intake from it."""
    db = await asyncpg.connect(dsn, server_settings={"search_path": "jtelstats"})
    try:
        async with (
            open_source(dsn, ("jtelstats",), BERLIN, None) as source,
            site.taking() as (_, ledger, _),
        ):
            feed = StatisticsFeed(source, RULES, options)
            yield db, feed, Intake(feed, ledger)
    finally:
        await db.close()


async def test_a_text_that_the_source_cannot_give_spoils_its_own_call_only(
    site: Site, any_bytes: str
) -> None:
    async with over(site, any_bytes) as (db, _, intake):
        await load(db, sample(*(call(n) for n in range(1, 8)), leg(31, 3, None), leg(32, 3, None)))
        await db.execute("UPDATE StatisticsPartA SET ANumber = 'M' || chr(252) WHERE ID IN (3, 6)")
        with capture_logs() as events:
            assert len(await take(intake, *range(1, 8))) == 8
            assert await take(intake, *range(1, 8)) == set()
    keys, lines = await site.keys(), await site.lines()
    spoilt = {key for key, line in zip(keys, lines, strict=True) if line["state"] == "invalid"}
    assert spoilt == {"3-0-31-0", "3-0-32-0", "6-0-0-0"}
    assert {event["event"] for event in events} == {logs.LINE_INVALID}


async def test_a_text_that_the_source_cannot_give_holds_up_no_other_line(
    site: Site, any_bytes: str
) -> None:
    """Neither what is made anew, nor what waits for an id that came late."""
    async with over(site, any_bytes) as (db, feed, intake):
        await load(db, sample(*(call(n, userdata=None) for n in range(1, 4))))
        await take(intake, 1, 2, 3)
        await db.execute("UPDATE StatisticsPartA SET UserData = $1", RECORD)
        await db.execute("UPDATE StatisticsPartA SET ANumber = 'M' || chr(252) WHERE ID = 2")
        entries = await feed.lines_by_key([LineKey(n, 0, 0, 0) for n in (1, 2, 3)])
        assert [(entry.key.call_id, entry.state) for entry in entries] == [
            (1, State.PENDING), (3, State.PENDING), (2, State.INVALID),
        ]  # fmt: skip
        found = await intake.look_for_ids(LONG_AGO, LONG_AGO)
        assert {key.call_id for key in found} == {1, 3}
    assert [line["state"] for line in await site.lines()] == ["pending", "skipped", "pending"]


async def test_a_line_that_cannot_be_read_stays_kept_out(site: Site, any_bytes: str) -> None:
    """Nobody knows whether the filter would let it pass, and it must not need anybody's action."""
    outbound = RecordOptions(BERLIN, False, False, Filters((), (), outbound=True))
    async with over(site, any_bytes, outbound) as (db, _, intake):
        await load(db, sample(*(call(n) for n in (1, 2))))
        await take(intake, 1, 2)
        await db.execute("UPDATE StatisticsPartA SET ANumber = 'M' || chr(252) WHERE ID = 2")
    whole = Period(LONG_AGO, at(0) + timedelta(days=1))
    async with over(site, any_bytes) as (_, feed, intake), site.taking() as (_, ledger, _):
        act = Act(ActKind.BACKFILL, "alice@acd1", since=whole.since, until=whole.until)
        works = [
            Backfill(feed, ledger, intake, whole, lambda _: None, lambda: None, act)
            for _ in range(2)
        ]
        await works[0].count(Window(whole.since, whole.until), resend=False)
        await works[1].take(Window(whole.since, whole.until), resend=False)
        assert [work.progress.new for work in works] == [1, 1]
    assert [line["state"] for line in await site.lines()] == ["pending", "skipped"]


async def test_what_the_source_cannot_read_far_down_spoils_its_own_call_only(
    site: Site, any_bytes: str
) -> None:
    async with over(site, any_bytes) as (db, _, intake):
        await load(
            db,
            sample(
                *(call(n, dtcallend=at(n)) for n in (1, 2, 3)),
                *(leg(n, 1 if n < 2500 else 2, None) for n in range(1, 5001)),
            ),
        )
        await db.execute("UPDATE StatisticsPartA SET ANumber = 'M' || chr(252) WHERE ID = 3")
        assert len(await take(intake, 1, 2, 3)) == 5001
    lines = await site.lines()
    # Of the third nothing is known but when it was found.
    assert [line["ordinal"] for line in lines] == [1, *range(1, 2500), *range(1, 2502)]
    assert Counter(line["state"] for line in lines) == {"pending": 5000, "invalid": 1}
