"""The demo: the real daemon over sample calls, its Postgres and Salesforce made for the show."""

import asyncio
import os
import signal
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from daemon.demo import calls as sample_calls
from daemon.demo import standin
from daemon.demo.badday import BadDay, Door, bad_day, door
from daemon.demo.postgres import embedded
from daemon.desk import Desk, Overview
from daemon.errors import CallstatsdError
from daemon.ledger import open_ledger

SCHEMA = "jtelstats"
LOOK_EVERY = 0.2
GIVE_UP_AFTER = 900.0
COUNTED = {"line.delivered", "line.conflict", "line.not_found"}
COUNTED_ON_A_BAD_DAY = COUNTED | {"line.locked", "line.retried"}

BAD_DAY = 24.0
NOBODY_THERE = (3.8, 2.5)
"""Seconds of the bad day after which connections are refused, and for how long."""
CONCURRENCY = 4
# A bad day of seconds needs pauses of seconds.
IMPATIENT = {
    "CALLSTATSD_REQUEST_TIMEOUT": "3",
    "CALLSTATSD_RETRY_INITIAL": "0.2",
    "CALLSTATSD_RETRY_MAX": "1",
}

MEANINGS = {
    "delivered": "written in Salesforce (200)",
    "conflict": "refused for good (409), never sent again",
    "not_found": "no such record in Salesforce (404)",
    "rejected": "another refusal (4xx), kept for an operator",
    "expired": "failed for too long, kept for an operator",
    "invalid": "a row that cannot become a record",
    "skipped": "no Salesforce id, so not sent",
    "pending": "still to be sent",
}


async def play(calls: int, seed: int, *, faults: bool = False) -> int:
    """Run the demo; returns the exit code: 0 when every line is settled and none was malformed.

    With `faults` Salesforce has a bad day of `BAD_DAY` seconds.
    """
    console = Console(highlight=False)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="callstatsd-demo-") as folder:
        console.print("Starting an embedded Postgres …")
        with embedded(Path(folder) / "postgres") as dsn:
            salesforce = standin.StandIn(
                seed=seed, work=0.01, lock_rate=0.03, keep_requests=calls <= 5000
            )
            async with door(salesforce) as entrance:
                environment = _environment(dsn, entrance.url) | (IMPATIENT if faults else {})
                await _migrate(environment, folder)
                lines = await _load(dsn, calls, seed)
                console.print(
                    f"{calls:,} calls of the last hours are in its tables, from seed {seed}; a "
                    f"stand-in for Salesforce listens at {entrance.url}.\n"
                    "Starting callstatsd run …"
                )
                going = _going_wrong(entrance, seed, lines) if faults else nullcontext()
                async with going as day:
                    overview, seconds = await _watch(
                        console,
                        environment,
                        folder,
                        dsn,
                        lines,
                        COUNTED_ON_A_BAD_DAY if faults else COUNTED,
                    )
    if day is not None:
        _show_troubles(console, day)
    _summarise(console, overview, salesforce, seconds)
    settled = overview.lines["pending"] == 0 and not salesforce.violations
    console.print(
        f"\nThe whole demo took {time.monotonic() - began:.1f} s; nothing is left behind."
    )
    return 0 if settled else 1


async def serve_only(port: int, seed: int) -> None:
    """Serve the Salesforce stand-in on loopback until interrupted."""
    salesforce = standin.StandIn(seed=seed, work=0.01, lock_rate=0.03, keep_requests=False)
    async with standin.serve(salesforce, port) as url:
        print(  # noqa: T201 - the command's result
            f"A stand-in for Salesforce listens at {url} (Ctrl-C ends it). Settings for it:\n"
            f"CALLSTATSD_TOKEN_URL={url}{standin.TOKEN_PATH}\n"
            f"CALLSTATSD_CLIENT_ID={standin.CLIENT_ID}\n"
            f"CALLSTATSD_CLIENT_SECRET={standin.CLIENT_SECRET}\n"
            f"Counts: {url}/",
            flush=True,
        )
        # Handlers of our own, because a shell starts what it puts in the background deaf to Ctrl-C.
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await stop.wait()


@asynccontextmanager
async def _going_wrong(entrance: Door, seed: int, lines: int) -> AsyncIterator[BadDay]:
    """Let the bad day begin, with a Salesforce so slow that the lines last for half of it."""
    salesforce = entrance.salesforce
    salesforce.work = min(0.5, CONCURRENCY * BAD_DAY / 2 / lines)
    salesforce.rule = day = bad_day(seed, time.monotonic(), BAD_DAY)
    breaking = asyncio.create_task(entrance.break_off(*NOBODY_THERE))
    try:
        yield day
    finally:
        breaking.cancel()
        await asyncio.gather(breaking, return_exceptions=True)


def _environment(dsn: str, url: str) -> dict[str, str]:
    """Return what the daemon of the demo shall see: no settings but these."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("CALLSTATSD_")}
    yesterday = datetime.now(UTC) - timedelta(days=1)
    return own | {
        "CALLSTATSD_SOURCE_DSN": dsn,
        "CALLSTATSD_SOURCE_SCHEMAS": SCHEMA,
        "CALLSTATSD_TOKEN_URL": f"{url}{standin.TOKEN_PATH}",
        "CALLSTATSD_CLIENT_ID": standin.CLIENT_ID,
        "CALLSTATSD_CLIENT_SECRET": standin.CLIENT_SECRET,
        "CALLSTATSD_START_FROM": yesterday.isoformat(),
        "CALLSTATSD_HTTP_LISTEN": "",
        "CALLSTATSD_LOG_FORMAT": "json",
    }


async def _command(name: str, *options: str, environment: dict[str, str], folder: str) -> Process:
    # Of its own folder, so that no .env of the user's is read.
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "daemon", name, *options,
        env=environment, cwd=folder, stdout=PIPE, stderr=PIPE, start_new_session=True,
    )  # fmt: skip


async def _migrate(environment: dict[str, str], folder: str) -> None:
    process = await _command(
        "migrate", "--reference-schema", environment=environment, folder=folder
    )
    _, errors = await process.communicate()
    if process.returncode != 0:
        raise CallstatsdError(f"callstatsd migrate failed: {errors.decode()}")


async def _load(dsn: str, calls: int, seed: int) -> int:
    sample = sample_calls.day(calls, seed, datetime.now(UTC))
    connection = await asyncpg.connect(dsn)
    try:
        await sample_calls.load(connection, sample, SCHEMA)
    finally:
        await connection.close()
    return max(len(sample.calls), len(sample.legs))


async def _watch(
    console: Console,
    environment: dict[str, str],
    folder: str,
    dsn: str,
    lines: int,
    counted: Collection[str],
) -> tuple[Overview, float]:
    """Show what the daemon tells until all is settled, then stop it in order."""
    loaded = datetime.now(UTC)
    daemon = await _command("run", environment=environment, folder=folder)
    began = time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("lines settled, {task.fields[pending]} pending"),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("sending", total=lines, pending=0)
            telling = asyncio.create_task(_tell_events(progress.console, daemon, counted))
            async with open_ledger(dsn, "callstatsd") as ledger:
                overview = await _until_settled(
                    Desk(ledger.database), daemon, progress, task, loaded
                )
            seconds = time.monotonic() - began
    finally:
        if daemon.returncode is None:
            daemon.terminate()
            await daemon.wait()
    await telling
    return overview, seconds


async def _until_settled(
    desk: Desk, daemon: Process, progress: Progress, task: Any, loaded: datetime
) -> Overview:
    deadline = time.monotonic() + GIVE_UP_AFTER
    while True:
        overview = await desk.overview()
        total = sum(overview.lines.values())
        pending = overview.lines["pending"]
        progress.update(task, total=total, completed=total - pending, pending=pending)
        taken = overview.standing.watermark is not None and (
            overview.standing.watermark >= loaded - timedelta(seconds=120)
        )
        if taken and pending == 0:
            return overview
        if daemon.returncode is not None or time.monotonic() > deadline:
            raise CallstatsdError("the daemon ended, or took too long, before all was settled")
        await asyncio.sleep(LOOK_EVERY)


async def _tell_events(console: Console, daemon: Process, counted: Collection[str]) -> None:
    """Print the daemon's log as it comes: the first few of what is `counted`, the others all."""
    seen: Counter[str] = Counter()
    if daemon.stderr is None:
        return
    async for raw in daemon.stderr:
        try:
            event = orjson.loads(raw)
        except orjson.JSONDecodeError:
            console.print(raw.decode(errors="replace").rstrip(), markup=False)
            continue
        name = event.pop("event")
        seen[name] += 1
        if name in counted and seen[name] > 3:
            if seen[name] == 4:
                console.print(f"            {name:16} … further ones are only counted")
            continue
        clock = event.pop("timestamp")[11:19]
        event.pop("level")
        fields = " ".join(f"{key}={value}" for key, value in event.items() if value is not None)
        console.print(f"  {clock}  {name:16} {fields}", markup=False, soft_wrap=True)


def _show_example(console: Console, salesforce: standin.StandIn) -> None:
    """Show what arrived of one call: two groups, four attempts, three codes make five lines."""
    example = f"{sample_calls.EXAMPLE_CALL}-"
    table = Table(
        "key", "agent", "group", "start", "seconds", "CONNRES", "code",
        title=f"Call {sample_calls.EXAMPLE_CALL}, as it arrived",
        box=None, padding=(0, 2, 0, 0), pad_edge=False,
    )  # fmt: skip
    for key, record in salesforce.written.items():
        if key.startswith(example):
            table.add_row(
                key,
                record["AgentUID"],
                record["AcdAgentGroupsName"],
                record["dtCallStart"][11:],
                str(record["nDuration"]),
                str(record["CONNRES"]),
                record["TransactionCodeExportKey"] or "",
            )
    for column in table.columns:
        column.no_wrap = True
    if table.row_count:
        console.print(table)


def _show_troubles(console: Console, day: BadDay) -> None:
    """Show what the daemon had to cope with."""
    table = Table("trouble", "requests", title="What went wrong in Salesforce")
    table.columns[1].justify = "right"
    for name, times in sorted(day.struck.items()):
        table.add_row(name, f"{times:,}")
    console.print(table)
    after, seconds = NOBODY_THERE
    console.print(
        f"After {after:g} s nobody was there: connections were refused for {seconds:g} s."
    )


def _summarise(
    console: Console, overview: Overview, salesforce: standin.StandIn, seconds: float
) -> None:
    table = Table("outcome", "lines", "meaning", title="What became of the data lines")
    table.columns[1].justify = "right"
    for state, meaning in MEANINGS.items():
        if overview.lines[state]:
            table.add_row(state, f"{overview.lines[state]:,}", meaning)
    total = sum(overview.lines.values())
    console.print(table)
    _show_example(console, salesforce)
    counts = salesforce.counts()
    console.print(
        f"{total:,} lines settled in {seconds:.1f} s ({total / seconds:,.0f} lines/s, most of it "
        f"the stand-in's own time). Salesforce had {counts['requests']:,} requests: "
        f"{counts['written']:,} lines written, {counts['by_status'].get('423', 0)} times a record "
        f"was locked, {counts['violations']} malformed."
    )
    for violation in salesforce.violations[:5]:
        console.print(f"  malformed: {violation}", markup=False)
    console.print(
        "\nTry next:\n"
        "  callstatsd demo --calls 5000 --seed 7     more calls, other ones\n"
        "  callstatsd demo --faults                  Salesforce has a bad day\n"
        "  callstatsd demo --serve-only --port 8080  the stand-in alone, for a daemon of your own\n"
        "  cp .env.example .env                      the settings, to connect your own ACD",
        soft_wrap=True,
    )
