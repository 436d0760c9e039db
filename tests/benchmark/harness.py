"""Where measurements take place: databases, the endpoint, and the real daemon as a process."""

import asyncio
import os
import signal
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import asyncpg
import orjson

from daemon.database.pool import Database
from daemon.demo.postgres import create_database, embedded
from daemon.ingest import reference_schema
from daemon.ledger import migrate
from daemon.ledger.binding import Binding
from daemon.ledger.store import open_ledger
from tests.benchmark import data
from tests.benchmark.endpoint import EndpointCounts

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "not-a-token"
PATIENCE = 600.0
"""Seconds after which a scenario, or one wait in it, is given up."""
LOG_INTERVAL = 0.002
"""Seconds between two looks at a log: what a process does before we have seen its start is missed
in its CPU time."""
EMPTY = "benchmark_empty"
T = TypeVar("T")
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Site:
    """One database with source and ledger, bound to each other."""

    name: str
    dsn: str

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Connect as the daemon's user would, ledger before source."""
        path = f"{data.LEDGER},{data.SOURCE}"
        connection = await asyncpg.connect(self.dsn, server_settings={"search_path": path})
        try:
            yield connection
        finally:
            await connection.close()

    async def bind(self) -> None:
        """Bind the ledger to this database, whatever it was copied from."""
        async with open_ledger(self.dsn, data.LEDGER) as ledger:
            await ledger.bind(Binding(None, self.name, (data.SOURCE,)), rebind=True)

    async def settle_down(self) -> None:
        """Let the planner know the rows, and nothing be left to vacuum while it counts."""
        async with self.connection() as db:
            await db.execute("VACUUM ANALYZE")
            await db.execute("CHECKPOINT")


@dataclass
class Harness:
    """An embedded Postgres and a folder, for all that is measured in one run."""

    server: str
    folder: Path
    numbers: dict[str, int] = field(default_factory=dict)

    async def prepare(self) -> None:
        """Make the database that all others are copied from: reference schema and ledger."""
        dsn = await create_database(self.server, EMPTY)
        async with Database("source", dsn, session={}, size=1) as database:
            await reference_schema.create_reference_schema(database, data.SOURCE)
        async with open_ledger(dsn, data.LEDGER) as ledger:
            await migrate.upgrade(ledger.database, data.LEDGER)
        connection = await asyncpg.connect(dsn)
        try:
            await data.masters(connection)
        finally:
            await connection.close()

    async def site(self, name: str, template: str = EMPTY) -> Site:
        """Copy a database; its name gets a number."""
        number = self.numbers[name] = self.numbers.get(name, 0) + 1
        name = f"{name}_{number}"
        site = Site(name, await create_database(self.server, name, template))
        await site.bind()
        return site

    async def drop(self, site: Site) -> None:
        """Give a database's disk space back."""
        connection = await asyncpg.connect(self.server)
        try:
            await connection.execute(f'DROP DATABASE "{site.name}" WITH (FORCE)')
        finally:
            await connection.close()

    async def postgres_cpu(self) -> float:
        """Seconds of CPU that Postgres has used so far, all its processes together."""
        connection = await asyncpg.connect(self.server)
        try:
            postmaster = parent(await connection.fetchval("SELECT pg_backend_pid()"))
        finally:
            await connection.close()
        return cpu(postmaster, children=True) + sum(map(cpu, children_of(postmaster)))


@contextmanager
def open_harness() -> Iterator[Harness]:
    """Start the Postgres."""
    with tempfile.TemporaryDirectory(prefix="callstatsd-benchmark-") as name:
        folder = Path(name)
        with embedded(folder / "postgres") as server:
            yield Harness(server, folder)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The endpoint's process."""

    url: str
    process: Process

    async def tally(self) -> EndpointCounts:
        """Ask what came in so far."""
        async with aiohttp.ClientSession() as session, session.get(self.url) as answer:
            return EndpointCounts(**orjson.loads(await answer.read()))

    async def answered(self, requests: int) -> EndpointCounts:
        """Wait until so many requests were answered, looking seldom: asking costs it time."""
        async with asyncio.timeout(PATIENCE):
            while (tally := await self.tally()).answers < requests:  # it tells nobody
                await asyncio.sleep(0.2)
        return tally


@asynccontextmanager
async def endpoint(
    *, delay: float = 0.0, locks: bool = False, arrivals: bool = False
) -> AsyncIterator[Endpoint]:
    """Run an endpoint that answers after `delay` seconds; see `Behaviour`."""
    flags = [f"--delay={delay}", *["--locks"] * locks, *["--arrivals"] * arrivals]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.benchmark.endpoint", *flags, cwd=ROOT, stdout=PIPE
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        yield Endpoint(f"http://127.0.0.1:{port}/services/apexrest/write", process)
    finally:
        process.kill()
        await process.wait()


@dataclass(frozen=True, slots=True)
class Daemon:
    """A `callstatsd` process that logs to a file."""

    process: Process
    log: Path

    def events(self, name: str) -> list[dict[str, Any]]:
        """Read what it has logged of one kind."""
        wanted = f'{{"event":"{name}"'.encode()
        return [
            orjson.loads(line)
            for line in self.log.read_bytes().splitlines()
            if line.startswith(wanted)
        ]

    async def until(self, name: str) -> dict[str, Any]:
        """Wait for the first event of a kind."""
        async with asyncio.timeout(60):
            while not (found := self.events(name)):  # a file tells nobody
                assert self.process.returncode is None, self.log.read_text()[-2000:]
                await asyncio.sleep(LOG_INTERVAL)
        return found[0]

    async def while_it_runs(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something that needs it; fail if it ends before."""
        doing = asyncio.ensure_future(work)
        ending = asyncio.ensure_future(self.process.wait())
        await asyncio.wait({doing, ending}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if not doing.done():
            doing.cancel()
            raise RuntimeError(f"the daemon ended:\n{self.log.read_text()[-2000:]}")
        return await doing

    async def stop(self) -> None:
        """End it in order."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await self.process.wait() == 0, self.log.read_text()[-2000:]


def environment(site: Site, url: str, **more: str) -> dict[str, str]:
    """The settings of a daemon: the defaults, but for where things are and what is named."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("CALLSTATSD_")}
    needed = {
        "SOURCE_DSN": site.dsn,
        "ENDPOINT_URL": url,
        "AUTH": "bearer",
        "BEARER_TOKEN": TOKEN,
        "HTTP_LISTEN": "",
    }
    chosen = needed | {name.upper(): value for name, value in more.items()}
    return own | {f"CALLSTATSD_{name}": value for name, value in chosen.items()}


def _with_bytecode(settings: dict[str, str], folder: Path) -> dict[str, str]:
    """Where no bytecode may be kept beside the sources, all processes of a run share a folder."""
    if "PYTHONDONTWRITEBYTECODE" not in settings:
        return settings
    kept = {name: value for name, value in settings.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": str(folder / "bytecode")}


@asynccontextmanager
async def daemon(folder: Path, settings: dict[str, str], *command: str) -> AsyncIterator[Daemon]:
    """Run `callstatsd` (`run` if no other command is named); killed if the block fails."""
    handle, name = tempfile.mkstemp(".log", "daemon-", folder)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "daemon", *(command or ("run",)),
        env=_with_bytecode(settings, folder), cwd=folder, stdout=DEVNULL, stderr=handle,
    )  # fmt: skip
    os.close(handle)
    try:
        yield Daemon(process, Path(name))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def drained(site: Site, started: datetime, lines: int) -> float:
    """Wait until nothing is pending; seconds from `started` to when the last line was settled."""
    async with site.connection() as db, asyncio.timeout(PATIENCE):
        while await db.fetchval("SELECT EXISTS (SELECT FROM line WHERE state = 'pending')"):
            await asyncio.sleep(0.1)  # a table tells nobody
        states = dict(await db.fetch("SELECT state, count(*) FROM line GROUP BY state"))
        assert states == {"delivered": lines}, states
        last: datetime = await db.fetchval("SELECT max(settled_at) FROM line")
    return (last - started).total_seconds()


def moment(event: dict[str, Any]) -> datetime:
    """When an event was logged."""
    return datetime.fromisoformat(event["timestamp"])


async def run_module(module: str, *arguments: Any) -> list[float]:
    """Run a module of this package in a process of its own; returns the figures it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"tests.benchmark.{module}", *map(str, arguments),
        cwd=ROOT, stdout=PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, module
    return [float(figure) for figure in output.split()]


def cpu_time(process_id: int) -> float:
    """Seconds of CPU (user and system) that a running process has used, all its threads together.

    The clock of clock_getcpuclockid(3): nanoseconds, where /proc counts in hundredths of a second.
    """
    return time.clock_gettime(~process_id << 3 | 2)


def cpu(process_id: int, *, children: bool = False) -> float:
    """Seconds of CPU that a process has used, with `children` also those that ended under it."""
    try:
        text = Path(f"/proc/{process_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # it has just ended: its parent has its seconds now
    # The name in parentheses may hold anything; what counts comes after it.
    fields = text.rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if children else 13])) / TICK


def parent(process_id: int) -> int:
    """The process that started this one."""
    return int(Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[1])


def children_of(process_id: int) -> list[int]:
    """The processes that this one started and that still run."""
    return [
        int(number)
        for task in Path(f"/proc/{process_id}/task").iterdir()
        for number in (task / "children").read_text().split()
    ]


def memory(process_id: int | str) -> tuple[int, int]:
    """Bytes of memory that a process has now, and had at most."""
    status = Path(f"/proc/{process_id}/status").read_text()
    values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    now, most = (int(values[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, most


def descriptors(process_id: int) -> int:
    """How many descriptors a process has open."""
    return sum(1 for _ in Path(f"/proc/{process_id}/fd").iterdir())


def memory_of_this_process() -> int:
    """Bytes of memory that this process had at most."""
    return memory("self")[1]
