"""The demo: the real daemon over sample calls, its Postgres and Salesforce made for the show."""

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

import asyncpg
from rich.console import Console

from daemon.demo import calls as sample_calls
from daemon.demo import standin, summary
from daemon.demo.faults import ClosableServer, FaultInjector, bad_day, door
from daemon.demo.postgres import embedded
from daemon.errors import CallstatsdError
from daemon.ledger.operator import OperatorStore, StatusReport
from daemon.ledger.store import open_ledger
from daemon.terminal import console, progress_bar, say, say_command

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
ENV_FILE = "demo.env"


@dataclass(frozen=True, slots=True)
class Show:
    """What was asked for: so many calls from a seed, a bad day, and to stay afterwards."""

    calls: int
    seed: int
    faults: bool = False
    stay: bool = False


class Interruption:
    """Ctrl-C, a kill or a closed terminal: ends what is going on in order, and only once."""

    def __init__(self) -> None:
        """Be about the current task."""
        self.came = asyncio.Event()
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._waited_for = False
        self._heard = False

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Listen while the block runs, also while it does not wait for anything."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._receive) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def wait(self) -> None:
        """Wait for it, instead of being cancelled by it."""
        self._waited_for = True
        await self.came.wait()

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        if self._heard:
            return
        self._heard = True
        with suppress(OSError):  # a terminal that was closed
            os.write(1, b"\nStopping ...\n")
        self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self.came.set()
        if self._task is not None and not self._waited_for:
            self._task.cancel()


async def run_demo(show: Show) -> int:
    """Run the demo; returns the exit code: 0 when every line is settled and none was malformed.

    With `faults` Salesforce has a bad day of `BAD_DAY` seconds. With `stay` all goes on until
    Ctrl-C. An interrupted demo stops what it has started, and returns 1.
    """
    began = time.monotonic()
    interruption = Interruption()
    started: list[str] = []
    with interruption.heard():
        try:
            code = await _play(show, interruption, started)
        except asyncio.CancelledError:
            if not interruption.came.is_set():
                raise
            code = 1
    if interruption.came.is_set():
        what = ", ".join(reversed(started)) or "nothing, as nothing had started yet"
        say(f"Stopped: {what}. Nothing is left behind.")
    else:
        say(f"\nThe whole demo took {time.monotonic() - began:.1f} s; nothing is left behind.")
    return code


async def _play(show: Show, interruption: Interruption, started: list[str]) -> int:
    salesforce = standin.StandIn(
        seed=show.seed,
        work=0.01,
        lock_rate=0.0 if show.faults else 0.03,
        keep_requests=show.calls <= 5000,
    )
    with tempfile.TemporaryDirectory(prefix="callstatsd-demo-") as folder:
        say("Starting an embedded Postgres …")
        with embedded(Path(folder) / "postgres") as dsn:
            started.append("Postgres")
            # Whoever pressed Ctrl-C meanwhile is heard here.
            await asyncio.sleep(0)
            async with door(salesforce) as entrance:
                started.append("the stand-in for Salesforce")
                environment = _environment(dsn, entrance.url, show)
                await _migrate(environment, folder)
                lines = await _load(dsn, show.calls, show.seed)
                say(
                    f"{show.calls:,} calls of the last hours are in its tables, from seed "
                    f"{show.seed}; a stand-in for Salesforce listens at {entrance.url}. It does "
                    "not know some of their records and does not accept others, on purpose.\n"
                    "Starting callstatsd run; this is its log, with times in UTC:"
                )
                going = _going_wrong(entrance, show.seed, lines) if show.faults else nullcontext()
                # One console, so that the log is printed above the progress bar.
                shown = console()
                counted = COUNTED_ON_A_BAD_DAY if show.faults else COUNTED
                events = summary.EventPrinter(shown, counted)
                async with going as day, _daemon(environment, folder, events) as daemon:
                    started.append("the daemon")
                    outcome = await _settle(dsn, shown, daemon, salesforce, lines, day)
                    if show.stay:
                        _sum_up(outcome)
                        events.begin_again()
                        await _stay(environment, Path(folder), daemon, interruption)
                if not show.stay:
                    _sum_up(outcome)
                    summary.show_what_next()
    settled = outcome.overview.lines["pending"] == 0 and not salesforce.violations
    return 0 if settled else 1


def _sum_up(outcome: summary.Outcome) -> None:
    summary.show(outcome)
    if outcome.day is not None:
        after, seconds = NOBODY_THERE
        say(f"After {after:g} s nobody was there: connections were refused for {seconds:g} s.")


async def serve_only(port: int, seed: int) -> None:
    """Serve the Salesforce stand-in on loopback until interrupted."""
    salesforce = standin.StandIn(seed=seed, work=0.01, lock_rate=0.03, keep_requests=False)
    async with standin.serve(salesforce, port) as url:
        # Not wrapped: settings are copied as they stand.
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


async def _stay(
    environment: dict[str, str], folder: Path, daemon: Process, interruption: Interruption
) -> None:
    """Print how to look at the running demo, and wait for Ctrl-C."""
    path = _write_env_file(environment, folder)
    program = _program()
    say(
        "\nPostgres, the stand-in and the daemon keep running until you press Ctrl-C.\n"
        f"The status page: http://{environment['CALLSTATSD_HTTP_LISTEN']}/\n"
        "Try in another terminal:"
    )
    for command, purpose in (
        ("status", "counts per state, and what the sender does"),
        (f"show {sample_calls.EXAMPLE_CALL}", "what happened to one call"),
        (
            f"requeue --state delivered --call-id {sample_calls.EXAMPLE_CALL}",
            "sends its lines once more: watch this terminal and the page",
        ),
    ):
        say_command(f"{program} {command} --env-file {path}")
        say(f"      {purpose}", hanging=6)
    waiting = asyncio.create_task(interruption.wait())
    ending = asyncio.create_task(daemon.wait())
    await asyncio.wait({waiting, ending}, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    if not waiting.done():
        waiting.cancel()
        raise CallstatsdError("the daemon ended by itself; its last lines above say why")


def _write_env_file(environment: dict[str, str], folder: Path) -> Path:
    """Write what a command needs to reach the demo's databases, for this user's eyes only."""
    path = folder / ENV_FILE
    path.touch(mode=0o600)
    own = {name: value for name, value in environment.items() if name.startswith("CALLSTATSD_")}
    # How a command logs is for whoever types it to say.
    del own["CALLSTATSD_LOG_FORMAT"]
    path.write_text("".join(f"{name}={value}\n" for name, value in own.items()), encoding="utf-8")
    return path


def _program() -> str:
    """Return how this program can be started from a shell in another folder."""
    beside = Path(sys.executable).with_name("callstatsd")
    found = shutil.which("callstatsd")
    if found is not None and Path(found).resolve() == beside.resolve():
        return "callstatsd"
    return str(beside) if beside.exists() else f"{sys.executable} -m daemon"


@asynccontextmanager
async def _going_wrong(
    entrance: ClosableServer, seed: int, lines: int
) -> AsyncIterator[FaultInjector]:
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


def _environment(dsn: str, url: str, show: Show) -> dict[str, str]:
    """Return what the daemon of the demo shall see: no settings but these."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("CALLSTATSD_")}
    yesterday = datetime.now(UTC) - timedelta(days=1)
    needed = {
        "CALLSTATSD_SOURCE_DSN": dsn,
        "CALLSTATSD_SOURCE_SCHEMAS": SCHEMA,
        "CALLSTATSD_TOKEN_URL": f"{url}{standin.TOKEN_PATH}",
        "CALLSTATSD_CLIENT_ID": standin.CLIENT_ID,
        "CALLSTATSD_CLIENT_SECRET": standin.CLIENT_SECRET,
        "CALLSTATSD_START_FROM": yesterday.isoformat(),
        "CALLSTATSD_HTTP_LISTEN": f"127.0.0.1:{_free_port()}" if show.stay else "",
        "CALLSTATSD_LOG_FORMAT": "json",
    }
    return own | needed | (IMPATIENT if show.faults else {})


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


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
    try:
        _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
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


@asynccontextmanager
async def _daemon(
    environment: dict[str, str], folder: str, events: summary.EventPrinter
) -> AsyncIterator[Process]:
    """Run the daemon and print its log; it is stopped in order when the block ends."""
    daemon = await _command("run", environment=environment, folder=folder)
    assert daemon.stderr is not None  # noqa: S101 - it is a pipe
    following = asyncio.create_task(events.follow(daemon.stderr))
    try:
        yield daemon
    finally:
        if daemon.returncode is None:
            daemon.terminate()
            await daemon.wait()
        await following


async def _settle(
    dsn: str,
    shown: Console,
    daemon: Process,
    salesforce: standin.StandIn,
    lines: int,
    day: FaultInjector | None,
) -> summary.Outcome:
    """Show the progress until all is settled."""
    loaded = datetime.now(UTC)
    began = time.monotonic()
    with progress_bar(shown, transient=True) as progress:
        task = progress.add_task("starting", total=lines, counted="")

        def show(overview: StatusReport) -> None:
            total, pending = sum(overview.lines.values()), overview.lines["pending"]
            progress.update(
                task,
                description="sending" if total else "starting",
                total=total or lines,
                completed=total - pending,
                counted=f"{total - pending:,} of {total or lines:,} lines settled",
            )

        async with open_ledger(dsn, "callstatsd") as ledger:
            operator_store = OperatorStore(ledger.database)
            while True:
                overview = await operator_store.overview()
                show(overview)
                if _is_settled(overview, loaded):
                    break
                if daemon.returncode is not None or time.monotonic() - began > GIVE_UP_AFTER:
                    raise CallstatsdError(
                        "the daemon ended, or took too long, before all was settled"
                    )
                await asyncio.sleep(LOOK_EVERY)
            example = await operator_store.call(sample_calls.EXAMPLE_CALL)
    return summary.Outcome(overview, salesforce, example, day, time.monotonic() - began)


def _is_settled(overview: StatusReport, loaded: datetime) -> bool:
    watermark = overview.status.watermark
    taken = watermark is not None and watermark >= loaded - timedelta(seconds=120)
    return taken and overview.lines["pending"] == 0
