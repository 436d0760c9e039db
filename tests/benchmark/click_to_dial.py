"""What hostile clients of the API listener cost the lines, and what it adds to a question."""

import asyncio
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from statistics import median, quantiles
from typing import Any

import orjson

from tests.benchmark.drain import LINES, Run, backlog, day, our_drain
from tests.benchmark.harness import ROOT, Harness, daemon, endpoint, environment
from tests.benchmark.result import Effort, Result, at_least, at_most, rate
from tests.support.hostile import PATH, question
from tests.support.raw import free_port

TOKEN = "not-a-token-of-anybody"
HOSTILE = 256
QUESTIONS = 500
FEWEST = 50
PAUSE = 0.02
"""Seconds between two questions: people click, they do not drain."""
Asked = list[tuple[float, float]]
"""Seconds of a question to the endpoint itself, and of the next one through the daemon."""


async def api(harness: Harness, effort: Effort) -> list[Result]:
    """The same backlog with the listener unused, with 256 hostile clients, with honest questions.

    The three take turns. Hostile clients leave the processor to all others (nice 19): theirs
    would be other machines.
    """
    calls = day(effort.of(LINES, 2000))
    alone: list[Run] = []
    crowded: list[Run] = []
    answers: Counter[str] = Counter()
    asked: Asked = []
    fresh: list[float] = []
    async with backlog(harness, calls) as source:

        async def run(beside: Callable[[int, str], AbstractAsyncContextManager[object]]) -> Run:
            site = await harness.site("api", source.name)
            port = free_port()
            drained = await our_drain(
                harness,
                site,
                calls.lines,
                lambda url: _settings(url, port),
                lambda url: beside(port, url),
            )
            await harness.drop(site)
            return drained

        for turn in range(effort.rounds):
            sides = [
                (alone, lambda *_: _quiet()),
                (crowded, lambda port, _: _crowd(port, answers, fresh)),
            ]
            for runs, beside in sides[:: -1 if turn % 2 else 1]:
                runs.append(await run(beside))
            await run(lambda port, url: _asking(port, url, asked))
    details: dict[str, Any] = {"lines": calls.lines, "answers": dict(answers)}
    idle = await _idle(harness, effort)
    return [
        Result(
            f"drain of {calls.lines:,} lines beside {HOSTILE} hostile clients: CPU per line",
            f"{median(run.cpu for run in crowded):.0f} µs",
            f"without: {median(run.cpu for run in alone):.0f} µs",
            [before.cpu / after.cpu for before, after in zip(alone, crowded, strict=True)],
            at_least(0.8),
            details,
        ),
        Result(
            "the same: wall",
            rate(calls.lines, [run.seconds for run in crowded]),
            f"without: {rate(calls.lines, [run.seconds for run in alone])}",
            [before.seconds / after.seconds for before, after in zip(alone, crowded, strict=True)],
            at_least(0.8),
            details,
        ),
        Result(
            "the same: an honest question on a new connection",
            f"half of {len(fresh):,}; 95 of 100: {_percentile(fresh, 95):.2f} s",
            "CLICK_TO_DIAL_TIMEOUT",
            [_percentile(fresh, 50)],
            at_most(3, "s"),
        ),
        _added("added to a question, half of all, idle", idle, 5),
        _added("the same during the drain", asked, 20),
    ]


def _settings(url: str, port: int) -> dict[str, str]:
    return {
        "click_to_dial_url": f"{url}/dial",
        "api_listen": f"127.0.0.1:{port}",
        "api_token": TOKEN,
    }


def _added(scenario: str, asked: Asked, most: float) -> Result:
    """What the daemon adds to the endpoint's own time, in milliseconds."""
    added = [(through - direct) * 1000 for direct, through in asked]
    return Result(
        scenario,
        f"{len(asked):,} questions; 95 of 100: {_percentile(added, 95):.1f} ms",
        f"the endpoint asked directly: {median(direct for direct, _ in asked) * 1000:.1f} ms",
        [median(added)],
        at_most(most, "ms"),
        {"added_milliseconds": added},
    )


def _percentile(values: list[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]


@asynccontextmanager
async def _quiet() -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def _crowd(port: int, answers: Counter[str], fresh: list[float]) -> AsyncIterator[None]:
    """Let the hostile clients in, and ask honestly beside them, each time with a new connection."""
    process = await asyncio.create_subprocess_exec(
        "nice", "-n", "19", sys.executable, "-m", "tests.benchmark.hostile",
        str(port), TOKEN, cwd=ROOT, stdout=PIPE,
    )  # fmt: skip
    asking = asyncio.create_task(_ask_anew(port, fresh))
    try:
        yield
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        process.send_signal(signal.SIGTERM)
        output, _ = await process.communicate()
    answers.update(orjson.loads(output))
    assert {"stranger 401", "malformed 400", "asker 200", "slow connections"} <= set(answers)


async def _ask_anew(port: int, fresh: list[float]) -> None:
    while True:
        await asyncio.sleep(10 * PAUSE)
        began = time.perf_counter()
        asker = await Asker.connect(port, question(PATH, TOKEN))
        try:
            await asker.ask()
        finally:
            asker.close()
        fresh.append(time.perf_counter() - began)


@asynccontextmanager
async def _asking(port: int, url: str, asked: Asked) -> AsyncIterator[None]:
    """Ask the endpoint and the daemon in turns."""
    asking = asyncio.create_task(_ask_both(port, url, asked))
    try:
        yield
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def _ask_both(port: int, url: str, asked: Asked, most: int | None = None) -> None:
    direct_port, path = url.removeprefix("http://127.0.0.1:").split("/", 1)
    direct = await Asker.connect(int(direct_port), question(f"/{path}/dial", "x"))
    through = await Asker.connect(port, question(PATH, TOKEN))
    try:
        while most is None or len(asked) < most:
            asked.append((await direct.ask(), await through.ask()))
            await asyncio.sleep(PAUSE)
    finally:
        direct.close()
        through.close()


async def _idle(harness: Harness, effort: Effort) -> Asked:
    """Ask a daemon that has nothing to send."""
    site, port = await harness.site("api_idle"), free_port()
    asked: Asked = []
    async with endpoint() as salesforce:
        settings = environment(site, salesforce.url, **_settings(salesforce.url, port))
        async with daemon(harness.folder, settings) as running:
            await running.until("daemon.started")
            questions = effort.of(QUESTIONS, FEWEST)
            await running.while_it_runs(_ask_both(port, salesforce.url, asked, questions))
            await running.stop()
    await harness.drop(site)
    return asked


class Asker:
    """One kept connection that asks the same again and again."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, question: bytes
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._question = question

    @classmethod
    async def connect(cls, port: int, question: bytes) -> "Asker":
        return cls(*await asyncio.open_connection("127.0.0.1", port), question)

    async def ask(self) -> float:
        """Ask; returns the seconds until the whole answer was there."""
        began = time.perf_counter()
        self._writer.write(self._question)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200"), head
        length = head.partition(b"content-length: ")[2].partition(b"\r")[0]
        await self._reader.readexactly(int(length))
        return time.perf_counter() - began

    def close(self) -> None:
        self._writer.close()
