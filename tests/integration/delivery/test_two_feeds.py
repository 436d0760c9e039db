"""One sender for two feeds: places, records, pauses and order (contract of callbacks, 6, 7, 11)."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from daemon import metrics
from daemon.delivery.backoff import Backoff
from daemon.delivery.channel import Route
from daemon.delivery.flow_control import FlowControl
from daemon.delivery.gate import OrgGate
from daemon.delivery.outcome_writer import OutcomeWriter
from daemon.delivery.sender import Limits, Sender
from daemon.errors import UnusableError
from daemon.ledger.store import Ledger, open_ledger
from daemon.lines import FeedName, LineKey, NewLine, Settlement, State
from daemon.salesforce.responses import NoResponse, Response, TokenFailure
from tests.support.daemon_process import PATIENCE

BASE = datetime(2026, 3, 4, 12, tzinfo=UTC)
CALLBACKS, STATISTICS = FeedName.CALLBACKS, FeedName.STATISTICS

Answer = Response | NoResponse | TokenFailure


def accepted(_key: str) -> Answer:
    return Response(200, '{"CaseNumber": "7"}')


class Org:
    """Both endpoints of one org: answers as told, and watches what is out at once."""

    def __init__(self) -> None:
        self.answers: dict[FeedName, Callable[[str], Answer]] = {}
        self.hanging: dict[FeedName, asyncio.Event] = {}
        self.record_of: dict[str, str] = {}
        self.seconds = 0.001
        self.posted: list[tuple[float, str]] = []
        self.out: list[str] = []
        self.most_out: dict[FeedName, int] = defaultdict(int)
        self.most_of_all = 0

    async def post(self, feed: FeedName, key: str) -> Answer:
        record = self.record_of[key]
        assert record not in [self.record_of[other] for other in self.out], "two for one record"
        self.posted.append((time.monotonic(), key))
        self.out.append(key)
        mine = sum(other.startswith("callback") == key.startswith("callback") for other in self.out)
        self.most_out[feed] = max(self.most_out[feed], mine)
        self.most_of_all = max(self.most_of_all, len(self.out))
        try:
            if feed in self.hanging:
                await self.hanging[feed].wait()
            await asyncio.sleep(self.seconds)
        finally:
            self.out.remove(key)
        return self.answers.get(feed, accepted)(key)

    def sent(self) -> list[str]:
        return [key for _, key in self.posted]


class Endpoint:
    """One of them."""

    def __init__(self, org: Org, feed: FeedName) -> None:
        self.org, self.feed = org, feed

    async def post(self, key: str, record: bytes) -> Answer:
        return await self.org.post(self.feed, key)

    def unsent(self, _key: str) -> bool:
        return False


class Rig:
    """A ledger with lines of both feeds, and a sender of them."""

    def __init__(self, ledger: Ledger, concurrency: int) -> None:
        self.ledger, self.org = ledger, Org()
        backoff = Backoff(0.05, 0.1)
        gate = OrgGate(concurrency)
        self.flows = {
            feed: FlowControl(gate, concurrency, backoff, endpoint_proven=True)
            for feed in (CALLBACKS, STATISTICS)
        }
        self.writer = OutcomeWriter(ledger, 86400.0)
        routes = [Route(feed, Endpoint(self.org, feed), flow) for feed, flow in self.flows.items()]
        limits = Limits(concurrency, request_timeout=60.0, idle=0.05)
        self.sender = Sender(ledger, routes, self.writer, backoff, limits, lambda: True)

    async def add(
        self, feed: FeedName, *numbers: int, record: str = "", backfill: bool = False
    ) -> None:
        """Take lines of a record each, or all of one."""
        lines = []
        for number in numbers:
            key = LineKey(number, 0, 0, 0, feed)
            lane = record or f"{feed} {number}"
            self.org.record_of[str(key)] = lane
            ended = BASE + timedelta(seconds=number)
            lines.append(NewLine(key, 1, lane, None, ended, State.PENDING, "{}"))
        await self.ledger.take(feed, lines, backfill=backfill)

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        tasks = [
            asyncio.create_task(self.sender.run(stop)),
            asyncio.create_task(self.writer.run()),
        ]
        try:
            yield
        finally:
            for event in self.org.hanging.values():
                event.set()
            stop.set()
            await tasks[0]
            await self.writer.finish(PATIENCE)
            tasks[1].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def pending(self, feed: FeedName) -> int:
        return await self.ledger.count_pending(feed)

    async def until_sent(self, feed: FeedName) -> None:
        async with asyncio.timeout(PATIENCE):
            while await self.pending(feed):
                await asyncio.sleep(0.01)


@asynccontextmanager
async def rig(dsn: str, concurrency: int = 4) -> AsyncIterator[Rig]:
    async with open_ledger(dsn, "callstatsd") as ledger:
        yield Rig(ledger, concurrency)


async def test_both_are_sent_and_one_record_has_one_request_at_a_time(dsn: str) -> None:
    async with rig(dsn, 8) as made:
        for number in range(1, 40):
            await made.add(CALLBACKS, number, record=f"record {number % 3}")
            await made.add(STATISTICS, number, record=f"record {number % 3}")
        async with made.sending():
            await made.until_sent(CALLBACKS)
            await made.until_sent(STATISTICS)
    assert sorted(made.org.sent()) == sorted(made.org.record_of)


async def test_live_callbacks_go_first_then_live_statistics_then_backfill(dsn: str) -> None:
    async with rig(dsn, 2) as made:
        made.org.hanging[CALLBACKS] = made.org.hanging[STATISTICS] = gate = asyncio.Event()
        await made.add(STATISTICS, 100)
        await made.add(CALLBACKS, 100)
        async with made.sending():
            async with asyncio.timeout(PATIENCE):
                while len(made.org.out) < 2:
                    await asyncio.sleep(0.01)
            # All in one record: one after another, in the order of both feeds.
            await made.add(STATISTICS, 3, record="one", backfill=True)
            await made.add(CALLBACKS, 3, record="one", backfill=True)
            await made.add(STATISTICS, 1, 2, record="one")
            await made.add(CALLBACKS, 1, 2, record="one")
            made.sender.wake()
            await asyncio.sleep(0.2)
            made.org.hanging.clear()
            gate.set()
            await made.until_sent(CALLBACKS)
            await made.until_sent(STATISTICS)
    keys = made.org.sent()[2:]
    assert keys == [
        *("callback-1", "callback-2", "1-0-0-0", "2-0-0-0"),
        *("callback-3", "3-0-0-0"),
    ]


@pytest.mark.parametrize("hangs", [CALLBACKS, STATISTICS])
async def test_a_feed_whose_endpoint_hangs_leaves_the_other_a_place(
    dsn: str, hangs: FeedName
) -> None:
    other = STATISTICS if hangs is CALLBACKS else CALLBACKS
    async with rig(dsn, 4) as made:
        made.org.hanging[hangs] = asyncio.Event()
        await made.add(hangs, *range(1, 20))
        async with made.sending():
            async with asyncio.timeout(PATIENCE):
                while made.org.most_out[hangs] < 3:
                    await asyncio.sleep(0.01)
            began = time.monotonic()
            await made.add(other, *range(100, 120))
            made.sender.wake()
            await made.until_sent(other)
            assert time.monotonic() - began < 1
            assert made.org.most_out[hangs] == 3
    assert made.org.most_of_all <= 4


async def test_with_one_place_the_feeds_take_turns(dsn: str) -> None:
    async with rig(dsn, 1) as made:
        await made.add(CALLBACKS, *range(1, 11))
        await made.add(STATISTICS, *range(1, 11))
        made.org.seconds = 0.02
        async with made.sending():
            await made.until_sent(CALLBACKS)
            await made.until_sent(STATISTICS)
    kinds = [key.startswith("callback") for key in made.org.sent()]
    assert made.org.most_of_all == 1
    assert max(kinds[4:16].count(True), kinds[4:16].count(False)) <= 7


REFUSING: dict[str, Callable[[str], Answer]] = {
    "unanswered": lambda _: NoResponse(True, "cut"),
    "configuration": lambda _: Response(405),
    "endpoint_missing": lambda _: Response(
        404, '[{"errorCode":"NOT_FOUND","message":"Could not find a match for URL"}]'
    ),
    "endpoint_failing": lambda _: Response(500, "broken"),
}


@pytest.mark.parametrize("reason", REFUSING)
@pytest.mark.parametrize("broken", [CALLBACKS, STATISTICS])
async def test_a_pause_of_one_endpoint_is_of_its_feed_alone(
    dsn: str, broken: FeedName, reason: str
) -> None:
    other = STATISTICS if broken is CALLBACKS else CALLBACKS
    async with rig(dsn) as made:
        made.org.answers[broken] = REFUSING[reason]
        await made.add(broken, *range(1, 30))
        with capture_logs() as logs:
            async with made.sending():
                async with asyncio.timeout(PATIENCE):
                    while made.flows[broken].current_pause is None:
                        await asyncio.sleep(0.01)
                assert made.flows[other].current_pause is None
                began = time.monotonic()
                await made.add(other, *range(100, 120))
                made.sender.wake()
                await made.until_sent(other)
                assert time.monotonic() - began < 1
                made.org.answers.clear()
                await made.until_sent(broken)
                async with asyncio.timeout(PATIENCE):
                    while not any(log["event"] == "sender.resumed" for log in logs):
                        await asyncio.sleep(0.01)
        paused = [log for log in logs if log["event"] == "sender.paused"]
        assert {(log["reason"], log.get("feed")) for log in paused} == {(reason, broken)}
        resumed = [log for log in logs if log["event"] == "sender.resumed"]
        assert {log.get("feed") for log in resumed} == {broken}


ORG: dict[str, Callable[[str], Answer]] = {
    "unauthorized": lambda _: TokenFailure(True, "no token"),
    "unavailable": lambda _: Response(503),
    "api_limit": lambda _: Response(
        403, '[{"errorCode":"REQUEST_LIMIT_EXCEEDED","message":"TotalRequests Limit exceeded."}]'
    ),
}


@pytest.mark.parametrize("reason", ORG)
async def test_a_pause_of_the_org_is_of_both_and_logged_once(dsn: str, reason: str) -> None:
    async with rig(dsn) as made:
        made.org.answers[CALLBACKS] = ORG[reason]
        await made.add(CALLBACKS, 1)
        with capture_logs() as logs:
            async with made.sending():
                async with asyncio.timeout(PATIENCE):
                    while made.flows[STATISTICS].current_pause is None:
                        await asyncio.sleep(0.01)
                status = made.sender.status()
                assert status.paused is not None
                assert (pause := status.others[CALLBACKS]) is not None
                assert status.paused[0] == pause[0] == reason
                assert metrics.REGISTRY.get_sample_value(
                    "callstatsd_feed_paused", {"feed": "statistics", "reason": reason}
                )
                made.org.answers.clear()
                await made.add(STATISTICS, 1)
                await made.until_sent(CALLBACKS)
                await made.until_sent(STATISTICS)
        paused = [log for log in logs if log["event"] == "sender.paused"]
        assert [(log["reason"], log.get("feed")) for log in paused] == [(reason, None)]
    assert not metrics.REGISTRY.get_sample_value(
        "callstatsd_feed_paused", {"feed": "statistics", "reason": reason}
    )


async def test_a_probe_of_the_org_that_hangs_keeps_the_other_feed_for_half_a_second(
    dsn: str,
) -> None:
    async with rig(dsn) as made:
        made.org.answers[STATISTICS] = ORG["unavailable"]
        await made.add(STATISTICS, 1)
        async with made.sending():
            async with asyncio.timeout(PATIENCE):
                while made.flows[CALLBACKS].current_pause is None:
                    await asyncio.sleep(0.01)
            made.org.answers.clear()
            made.org.hanging[CALLBACKS] = asyncio.Event()
            await made.add(CALLBACKS, 1)
            made.sender.wake()
            async with asyncio.timeout(PATIENCE):
                while "callback-1" not in made.org.sent():
                    await asyncio.sleep(0.01)
            began = time.monotonic()
            await made.until_sent(STATISTICS)
            assert time.monotonic() - began < 1


async def test_a_locked_record_waits_in_both_feeds(dsn: str) -> None:
    async with rig(dsn) as made:
        made.org.answers[CALLBACKS] = lambda key: Response(
            423 if made.org.sent().count(key) < 2 else 200
        )
        await made.add(CALLBACKS, 1, record="one")
        await made.add(STATISTICS, *range(1, 5), record="one")
        async with made.sending():
            await made.until_sent(CALLBACKS)
            await made.until_sent(STATISTICS)
    times = {key: at for at, key in made.org.posted}
    first = next(at for at, key in made.org.posted if key == "callback-1")
    assert all(at - first > 0.02 for key, at in times.items() if key != "callback-1")
    assert made.org.sent().count("callback-1") == 2


async def test_what_the_endpoint_of_callbacks_answered_is_kept(dsn: str) -> None:
    async with rig(dsn) as made:
        made.org.answers[CALLBACKS] = made.org.answers[STATISTICS] = lambda _: Response(
            200, "Grüße\0" + "x" * 300
        )
        await made.add(CALLBACKS, 1)
        await made.add(STATISTICS, 1)
        async with made.sending():
            await made.until_sent(CALLBACKS)
            await made.until_sent(STATISTICS)
        async with made.ledger.database.connection() as connection:
            rows = await connection.fetch("SELECT feed, answer FROM line ORDER BY feed")
    assert [tuple(row) for row in rows] == [
        ("callbacks", "Grüße" + "x" * 194),
        ("statistics", None),
    ]


@pytest.mark.parametrize("poisoned", [CALLBACKS, STATISTICS])
@pytest.mark.parametrize("reason", ["unauthorized", "unavailable"])
async def test_a_line_that_pauses_the_org_time_and_again_does_not_starve_the_other_feed(
    dsn: str, poisoned: FeedName, reason: str
) -> None:
    other = STATISTICS if poisoned is CALLBACKS else CALLBACKS
    async with rig(dsn) as made:
        made.org.answers[poisoned] = ORG[reason]
        await made.add(poisoned, 1)
        await made.add(other, *range(100, 110))
        async with made.sending():
            await made.until_sent(other)
            assert await made.pending(poisoned) == 1
            made.org.answers.clear()


async def test_of_two_outcomes_in_one_write_the_later_holds_the_record(dsn: str) -> None:
    """The first frees it after a lock, the second is locked again."""
    async with rig(dsn) as made:
        await made.add(CALLBACKS, 1, record="one")
        await made.add(STATISTICS, 1, 2, record="one")
        callback = LineKey.of_callback(1)
        statistics = LineKey(1, 0, 0, 0)
        await made.ledger.settle(
            [
                Settlement(callback, 0, "one", State.DELIVERED, True, 0.1, status=200, free=True),
                Settlement(
                    statistics, 0, "one", State.PENDING, True, 0.1, True, status=423, wait=60.0,
                    hold=True, lane_tries=1,
                ),
            ],
            86400.0,
        )  # fmt: skip
        assert await made.ledger.pending(STATISTICS, 10, []) == []


async def test_a_write_of_both_feeds_is_whole_or_not_at_all(dsn: str) -> None:
    async with rig(dsn) as made:
        await made.add(CALLBACKS, 1)
        await made.add(STATISTICS, 1)
        settlements = [
            Settlement(key, 0, "any", State.DELIVERED, True, 0.1, status=200)
            for key in (LineKey(1, 0, 0, 0), LineKey.of_callback(1))
        ]
        async with made.ledger.database.connection() as connection:
            await connection.execute(
                "CREATE FUNCTION callbacks_fail() RETURNS trigger LANGUAGE plpgsql AS $$"
                " BEGIN RAISE 'no' USING ERRCODE = '57P03'; END $$;"
                "CREATE TRIGGER fail BEFORE UPDATE ON line FOR EACH ROW"
                " WHEN (NEW.feed = 'callbacks') EXECUTE FUNCTION callbacks_fail()"
            )
        with pytest.raises(UnusableError):
            await made.ledger.settle(settlements, 86400.0)
        assert await made.pending(STATISTICS) == 1
        async with made.ledger.database.connection() as connection:
            await connection.execute("DROP TRIGGER fail ON line")
        done = await made.ledger.settle(settlements, 86400.0, again=True)
        assert done == {one.key: (State.DELIVERED, 1) for one in settlements}


async def test_records_that_the_other_feed_holds_for_long_starve_nobody(dsn: str) -> None:
    """Their older lines would fill every page that is read."""
    concurrency = 12
    async with rig(dsn, concurrency) as made:
        made.org.hanging[CALLBACKS] = asyncio.Event()
        for number in range(1, concurrency):
            await made.add(CALLBACKS, number, record=f"record {number}")
            first = number * 1000
            await made.add(STATISTICS, *range(first, first + 250), record=f"record {number}")
        async with made.sending():
            async with asyncio.timeout(PATIENCE):
                while made.org.most_out[CALLBACKS] < concurrency - 1:
                    await asyncio.sleep(0.01)
            await made.add(STATISTICS, *range(900_000, 900_100))
            made.sender.wake()
            async with asyncio.timeout(PATIENCE):
                while sum(key.startswith("9000") for key in made.org.sent()) < 100:
                    await asyncio.sleep(0.02)
            newest = {f"{number}-0-0-0" for number in range(900_000, 900_100)}
            assert newest <= set(made.org.sent())
            made.org.hanging.pop(CALLBACKS).set()
            await made.until_sent(CALLBACKS)
            await made.until_sent(STATISTICS)
