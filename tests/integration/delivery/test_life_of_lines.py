"""Whatever people and Salesforce do, a line is sent in order, alone, and until it is settled."""

import asyncio
import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from daemon.delivery.backoff import Backoff
from daemon.delivery.channel import Route
from daemon.delivery.flow_control import FAILING_AFTER, FlowControl
from daemon.delivery.gate import OrgGate
from daemon.delivery.outcome_writer import OutcomeWriter
from daemon.delivery.sender import Limits, Sender
from daemon.demo.postgres import create_database
from daemon.ledger.acts import Act, ActKind
from daemon.ledger.operator import OperatorStore
from daemon.ledger.overview import LineFilter
from daemon.ledger.store import open_ledger
from daemon.lines import FeedName, LineKey, NewLine, Settlement, State
from daemon.salesforce.responses import NoResponse, Response, TokenFailure
from tests.support.daemon_process import PATIENCE

T = TypeVar("T")

LANES = ("a", "b", "c")
FINAL = {400: "rejected", 200: "delivered", 404: "not_found", 409: "conflict"}
ENDED = datetime(2026, 11, 20, 9, tzinfo=UTC)
REPLIES: dict[str, Response | NoResponse] = {
    "200": Response(200, "", None, None),
    "400": Response(400, "bad", None, None),
    "404": Response(404, "gone", None, None),
    "409": Response(409, "there", None, None),
    "423": Response(423, "locked", None, None),
    "500": Response(500, "failed", None, None),
    "503": Response(503, "busy", None, None),
    "cut": NoResponse(sent=True, error="cut"),
    "away": NoResponse(sent=False, error="refused"),
}


class Judge:
    """Salesforce, that writes down what breaks the rules of one sender."""

    def __init__(self) -> None:
        self.script: Iterator[str] = itertools.repeat("200")
        self.out: Counter[str] = Counter()
        self.lane_of: dict[str, str] = {}
        self.sent: list[str] = []
        self.settled: dict[str, str] = {}
        self.waiting: dict[str, set[str]] = defaultdict(set)
        self.faults: list[str] = []
        self.history: list[str] = []
        self.endpoint_fails: Callable[[], bool] = lambda: False

    def unsent(self, key: str) -> bool:
        return False

    async def post(self, key: str, record: bytes) -> Response | NoResponse | TokenFailure:
        lane = self.lane_of[key]
        if self.out[lane]:
            self.faults.append(f"{key}: sent while its record {lane} was busy")
        if key in self.settled:
            self.faults.append(f"{key}: sent after it was {self.settled[key]}")
        before = [held for held in self.waiting[lane] if place(held) < place(key)]
        if before and key not in self.waiting[lane]:
            self.faults.append(f"{key}: sent while {before} held back the record {lane}")
        if record != body(key):
            self.faults.append(f"{key}: sent {record!r}")
        self.sent.append(key)
        self.out[lane] += 1
        said = next(self.script)
        reply = REPLIES[said]
        self.history.append(f"{key} of {lane}: {said}")
        self.waiting[lane].add(key)
        try:
            await asyncio.sleep(0.001)
        finally:
            self.out[lane] -= 1
        if (
            isinstance(reply, Response)
            and reply.status in {400, 404, 500}
            and self.endpoint_fails()
        ):
            self.history.append(f"{key}: spared")
            return reply
        if isinstance(reply, Response) and reply.status in FINAL:
            self.settled[key] = FINAL[reply.status]
        if isinstance(reply, Response) and reply.status in {*FINAL, 500}:
            self.waiting[lane].discard(key)
        return reply

    def forget(self, key: str) -> None:
        """Expect nothing more of a line that a person changed."""
        self.waiting[self.lane_of[key]].discard(key)


def place(key: str) -> int:
    """A line's place among all: its call's number."""
    return int(key.partition("-")[0])


def body(key: str) -> bytes:
    return f'{{"key": "{key}"}}'.encode()


class Lives(RuleBasedStateMachine):
    """One ledger, one sender at a time, a judge, and operators."""

    server: str
    template: str
    names: Iterator[str]
    failing_after: int
    lines: Bundle[int] = Bundle("lines")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.judge = Judge()
        self.calls = 0
        self.order: dict[str, list[str]] = defaultdict(list)
        self.withdrawn: set[str] = set()
        self.running: asyncio.Task[None] | None = None
        self.stop = asyncio.Event()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize()
    def open(self) -> None:
        self.do(self._open())

    async def _open(self) -> None:
        dsn = await create_database(self.server, next(self.names), self.template)
        self.ledger = await self.stack.enter_async_context(open_ledger(dsn, "callstatsd"))
        self.db = await asyncpg.connect(dsn, server_settings={"search_path": "callstatsd"})
        self.stack.push_async_callback(self.db.close)
        self.operator_store = OperatorStore(self.ledger.database)
        self.writer = OutcomeWriter(self.ledger, 3600.0)
        self.settling = asyncio.create_task(self.writer.run())
        self.held = False
        await self._begin()

    async def _begin(self) -> None:
        backoff = Backoff(0.002, 0.01)
        failing = await self.ledger.failing_answers(FeedName.STATISTICS)
        flow = FlowControl(
            OrgGate(3),
            3,
            backoff,
            endpoint_proven=True,
            failing=failing,
            failing_after=self.failing_after,
        )
        self.judge.endpoint_fails = lambda: flow.failing
        limits = Limits(concurrency=3, request_timeout=1.0, idle=0.01)
        self.sender = Sender(
            self.ledger,
            [Route(FeedName.STATISTICS, self.judge, flow)],
            self.writer,
            backoff,
            limits,
            lambda: True,
        )
        self.sender.operator_paused = self.held
        self.stop = asyncio.Event()
        self.running = asyncio.create_task(self.sender.run(self.stop))

    @rule(lane=st.sampled_from(LANES), count=st.integers(1, 20))
    def take(self, lane: str, count: int) -> None:
        """Lines of one record come into the ledger, in order."""
        entries = []
        for _ in range(count):
            self.calls += 1
            key = LineKey(self.calls, 0, 0, 0)
            self.judge.lane_of[str(key)] = lane
            self.order[lane].append(str(key))
            ended = ENDED + timedelta(seconds=self.calls)
            entries.append(
                NewLine(key, 1, lane, lane, ended, State.PENDING, body(str(key)).decode())
            )
        self.do(self.ledger.take(FeedName.STATISTICS, entries))
        self.sender.wake()

    @rule(
        script=st.lists(st.sampled_from(sorted(REPLIES)), min_size=1, max_size=8),
        moment=st.integers(1, 40),
    )
    def send(self, script: list[str], moment: int) -> None:
        """The sender runs for some milliseconds, and Salesforce has moods."""
        self.judge.script = itertools.cycle(script)
        self.do(asyncio.sleep(moment / 1000))
        assert self.running is not None
        assert not self.running.done()
        assert not self.settling.done()

    @rule(in_order=st.booleans())
    def restart(self, *, in_order: bool) -> None:
        """The sender stops in order or loses its lock, and another one begins."""
        self.do(self._end(in_order=in_order))
        self.do(self._begin())

    async def _end(self, *, in_order: bool) -> None:
        self.judge.history.append(f"restart, in order: {in_order}")
        assert self.running is not None
        if in_order:
            self.stop.set()
            await self.running
        else:
            self.running.cancel()
            await asyncio.gather(self.running, return_exceptions=True)

    @rule(state=st.sampled_from(["pending", "delivered", "conflict"]))
    def discard(self, state: str) -> None:
        """Somebody withdraws lines; what is out at that moment may still be judged."""
        self.do(self._act("discard", State(state)))

    @rule(state=st.sampled_from(["delivered", "conflict", "not_found", "rejected", "skipped"]))
    def requeue(self, state: str) -> None:
        """Somebody wants lines sent again."""
        self.do(self._act("requeue", State(state)))

    async def _act(self, act: str, state: State) -> None:
        act_id = await self.operator_store.begin(Act(ActKind(act), "alice@acd1", (state,)))
        async for chosen in self.operator_store.choose(LineFilter((state,))):
            chosen_keys = {str(one.key) for one in chosen}
            self.judge.history.append(f"{act} {sorted(chosen_keys, key=place)}")
            if act == "requeue":
                for key in chosen_keys:
                    self.judge.settled.pop(key, None)
            await getattr(self.operator_store, act)(chosen, act_id)
            # As the daemon does when an operator's command notifies it, in the same moment.
            self.sender.reload()
            for key in chosen_keys if act == "discard" else ():
                if not self._is_out(key):
                    self.judge.settled[key] = "discarded"
            self.withdrawn |= chosen_keys
            for key in chosen_keys:
                self.judge.forget(key)

    def _is_out(self, key: str) -> bool:
        return any(str(request.line.key) == key for request in self.sender._in_flight.values())

    @rule(held=st.booleans())
    def hold(self, *, held: bool) -> None:
        """An operator pauses or resumes."""
        self.held = held
        self.do(self._hold(held=held))

    async def _hold(self, *, held: bool) -> None:
        self.sender.control(operator_paused=held, probe=False)

    @precondition(lambda self: not self.held)
    @rule()
    def all_is_settled_in_time(self) -> None:
        """Left alone, every pending line gets an outcome."""
        self.judge.script = itertools.repeat("200")
        self.do(self._settled())

    async def _settled(self) -> None:
        began = time.monotonic()
        while await self.db.fetchval("SELECT count(*) FROM line WHERE state = 'pending'"):
            assert time.monotonic() - began < PATIENCE, "lines stay pending"
            await asyncio.sleep(0.005)

    @invariant()
    def the_judge_found_no_fault(self) -> None:
        assert self.judge.faults == [], "\n".join(self.judge.history[-60:])

    @invariant()
    def first_sendings_are_in_order(self) -> None:
        """Of lines that nobody withdrew or brought back."""
        first = {key: turn for turn, key in reversed(list(enumerate(self.judge.sent)))}
        for keys in self.order.values():
            turns = [first.get(key) for key in keys if key not in self.withdrawn]
            sent = [turn for turn in turns if turn is not None]
            assert sent == sorted(sent)
            assert None not in turns[: len(sent)]

    def teardown(self) -> None:
        if self.running is not None:
            self.do(self._close())
        self.runner.close()

    async def _close(self) -> None:
        await self._end(in_order=True)
        await self.writer.finish(5.0)
        self.settling.cancel()
        await asyncio.gather(self.settling, return_exceptions=True)
        await self.stack.aclose()


_names = (f"lives_{number}" for number in itertools.count(1))


def assert_lines_live(
    server: str, template: str, examples: int, steps: int, failing_after: int = FAILING_AFTER
) -> None:
    class Ours(Lives):
        names = _names

    Ours.server, Ours.template, Ours.failing_after = server, template, failing_after
    run_state_machine_as_test(
        Ours,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_lines_live_in_order_alone_and_until_they_are_settled(server: str, template: str) -> None:
    assert_lines_live(server, template, examples=25, steps=40)


def test_lines_live_so_where_the_endpoint_fails_time_and_again(server: str, template: str) -> None:
    """Two records in a row do for a pause, so that probes are the first and the newest in turn."""
    assert_lines_live(server, template, examples=25, steps=40, failing_after=2)


@pytest.mark.long
def test_lines_live_so_through_many_more_lives(server: str, template: str) -> None:
    assert_lines_live(server, template, examples=300, steps=80)
    assert_lines_live(server, template, examples=300, steps=80, failing_after=2)


async def test_what_people_do_and_what_came_back_are_written_beside_each_other(
    dsn: str, db: asyncpg.Connection
) -> None:
    """Both change the same lines, each in an order of its own, and neither may fail for it."""
    keys = [LineKey(number, 0, 0, 0) for number in range(1, 41)]
    async with open_ledger(dsn, "callstatsd") as ledger:
        await ledger.take(FeedName.STATISTICS,
            [NewLine(key, 1, str(key), None, ENDED, State.PENDING, body(str(key)).decode())
             for key in keys]
        )  # fmt: skip
        await db.execute(
            """
            CREATE FUNCTION callstatsd.slowly() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END $$;
            CREATE TRIGGER slowly BEFORE UPDATE ON callstatsd.line
            FOR EACH ROW EXECUTE FUNCTION callstatsd.slowly();
            """
        )
        operator_store = OperatorStore(ledger.database)
        [chosen] = [page async for page in operator_store.choose(LineFilter((State.PENDING,)))]
        outcomes = [
            Settlement(key=key, generation=0, lane=str(key), state=State.DELIVERED, sent=True,
                       age=0.1, status=200)
            for key in reversed(keys)
        ]  # fmt: skip
        act_id = await operator_store.begin(Act(ActKind.DISCARD, "alice@acd1"))
        await asyncio.gather(ledger.settle(outcomes, 60.0), operator_store.discard(chosen, act_id))
    assert await db.fetchval("SELECT count(*) FROM line WHERE state = 'pending'") == 0
