"""Runs the demo: the real daemon on sample calls, with embedded Postgres and a stand-in."""

import asyncio
import os
import random
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

from daemon.demo import acd_standin, dials, grants, standin, summary, telegra
from daemon.demo import calls as sample_calls
from daemon.demo.callbacks import REJECTED_CALLBACK, REQUESTS, callback_requests
from daemon.demo.faults import ClosableServer, FaultInjector, all_faults, serve_closable
from daemon.demo.postgres import embedded
from daemon.demo.rows import load
from daemon.errors import CallstatsdError
from daemon.ledger.operator import OperatorStore
from daemon.ledger.overview import StatusReport
from daemon.ledger.store import open_ledger
from daemon.terminal import console, progress_bar, say, say_command

SCHEMA = "jtelstats"
REFRESH_EVERY = 0.2
"""Seconds between two reads of the progress."""
TIME_LIMIT = 900.0
"""Seconds after which the demo gives up."""
COUNTED = {"line.delivered", "line.conflict", "line.not_found"}
"""Events of which only the first few are printed."""
COUNTED_WITH_FAULTS = COUNTED | {"line.locked", "line.retried"}

FAULTS_LAST = 24.0
"""Seconds for which faults are simulated."""
OUTAGE_AFTER, OUTAGE_LASTS = 3.8, 2.5
"""Seconds after which connections are refused, and for how long."""
CONCURRENCY = 4
# Faults that last seconds need retries and pauses of seconds.
SHORT_RETRIES = {
    "CALLSTATSD_REQUEST_TIMEOUT": "3",
    "CALLSTATSD_RETRY_INITIAL": "0.2",
    "CALLSTATSD_RETRY_MAX": "1",
}
ENV_FILE = "demo.env"


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Options of the command: calls and seed, simulated faults, and whether to keep running."""

    calls: int
    seed: int
    faults: bool = False
    stay: bool = False


class StopSignals:
    """SIGINT, SIGTERM or SIGHUP: cancels the current task once, so that everything is stopped."""

    def __init__(self) -> None:
        self.received = asyncio.Event()
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._awaited = False
        self._announced = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle the signals while the block runs, also during blocking calls."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._receive) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def wait(self) -> None:
        """Wait for a signal; from then on it does not cancel the task."""
        self._awaited = True
        await self.received.wait()

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        if self._announced:
            return
        self._announced = True
        with suppress(OSError):  # a terminal that was closed
            os.write(1, b"\nStopping ...\n")
        self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self.received.set()
        if self._task is not None and not self._awaited:
            self._task.cancel()


async def run_demo(options: DemoOptions) -> int:
    """Run the demo; returns 0 if every line was settled and no request was malformed.

    `faults` simulates faults of Salesforce for `FAULTS_LAST` seconds; `stay` keeps everything
    running until Ctrl-C. An interrupted demo stops what it has started and returns 1.
    """
    began = time.monotonic()
    signals = StopSignals()
    started: list[str] = []
    with signals.handled():
        try:
            code = await _run_steps(options, signals, started)
        except asyncio.CancelledError:
            if not signals.received.is_set():
                raise
            code = 1
    if signals.received.is_set():
        what = ", ".join(reversed(started)) or "nothing, because nothing had started yet"
        say(f"Stopped: {what}. Nothing is left behind.")
    else:
        say(f"\nThe whole demo took {time.monotonic() - began:.1f} s; nothing is left behind.")
    return code


async def _run_steps(options: DemoOptions, signals: StopSignals, started: list[str]) -> int:
    salesforce = standin.StandIn(
        seed=options.seed,
        work=0.01,
        lock_rate=0.0 if options.faults else 0.03,
        keep_requests=options.calls <= 5000,
    )
    acd = acd_standin.AcdStandIn()
    acd.add_samples()
    with tempfile.TemporaryDirectory(prefix="callstatsd-demo-") as folder:
        say("Starting an embedded Postgres …")
        with embedded(Path(folder) / "postgres") as dsn:
            started.append("Postgres")
            # A Ctrl-C during the blocking start takes effect here.
            await asyncio.sleep(0)
            async with serve_closable(salesforce, acd) as server:
                started.append("the stand-in for Salesforce")
                environment = _environment(dsn, server.url, options)
                await _migrate(environment, folder)
                lines = await _load(dsn, options.calls, options.seed)
                say(
                    f"{options.calls:,} calls of the last hours and {REQUESTS} callback requests "
                    f"are in its tables, from seed {options.seed}; a stand-in for Salesforce "
                    f"listens at {server.url}. On purpose it lacks some of their records (404) and "
                    "refuses others (409, and one callback with 400). A group of the ACD gets an "
                    "alert for the last, from a stand-in for the ACD's REST server.\n"
                    "Starting callstatsd run; its log follows, with times in UTC:"
                )
                simulated = (
                    _simulate_faults(server, options.seed, lines)
                    if options.faults
                    else nullcontext()
                )
                # The same console for both, so that the log is printed above the progress bar.
                shown = console()
                counted = COUNTED_WITH_FAULTS if options.faults else COUNTED
                events = summary.EventPrinter(shown, counted)
                async with simulated as faults, _daemon(environment, folder, events) as daemon:
                    started.append("the daemon")
                    outcome = await _settle(dsn, shown, daemon, salesforce, lines, faults)
                    outcome.dials.update(await dials.ask_all(environment, server))
                    outcome.alerts.extend(acd.alerts)
                    # Inbound calls of a Telegra ACD have no Salesforce id.
                    salesforce.without_id = True
                    chance = random.Random(options.seed)  # noqa: S311 - the same each time
                    played = telegra.play(environment, folder, _free_port(), chance)
                    outcome.telegra.update(await played)
                    if options.stay:
                        _print_summary(outcome)
                        events.reset_counts()
                        await _stay(environment, Path(folder), daemon, signals)
                if not options.stay:
                    _print_summary(outcome)
                    summary.show_what_next()
    malformed = salesforce.violations + acd.violations
    return 0 if _nothing_pending(outcome.overview) and not malformed else 1


def _print_summary(outcome: summary.Outcome) -> None:
    summary.show(outcome)
    if outcome.faults is not None:
        say(f"From {OUTAGE_AFTER:g} s on, connections were refused for {OUTAGE_LASTS:g} s.")


async def serve_only(port: int, seed: int) -> None:
    """Serve the stand-ins for Salesforce and the ACD on loopback until interrupted."""
    salesforce = standin.StandIn(seed=seed, work=0.01, lock_rate=0.03, keep_requests=False)
    acd = acd_standin.AcdStandIn(keep_requests=False)
    acd.add_samples()
    async with standin.serve(salesforce, port, acd) as url:
        # Not wrapped, so that the settings can be copied.
        print(  # noqa: T201 - the command's result
            f"A stand-in for Salesforce listens at {url} (Ctrl-C stops it), and one for the ACD's "
            "REST server. Settings for them:\n"
            f"CALLSTATSD_TOKEN_URL={url}{standin.TOKEN_PATH}\n"
            f"CALLSTATSD_CLIENT_ID={grants.CLIENT_ID}\n"
            f"CALLSTATSD_CLIENT_SECRET={grants.CLIENT_SECRET}\n"
            f"CALLSTATSD_CALLBACK_URL={standin.CALLBACK_PATH}\n"
            f"CALLSTATSD_CLICK_TO_DIAL_URL={standin.DIAL_PATH}\n"
            + "".join(f"{name}={value}\n" for name, value in acd_standin.settings(url).items())
            + f"Counts: {url}/",
            flush=True,
        )
        # Handlers of our own, because a shell lets background processes ignore SIGINT.
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await stop.wait()


async def _stay(
    environment: dict[str, str], folder: Path, daemon: Process, signals: StopSignals
) -> None:
    """Print how to inspect the running demo, and wait for Ctrl-C."""
    path = _write_env_file(environment, folder)
    program = _program()
    say(
        "\nPostgres, the stand-in and the daemon keep running until you press Ctrl-C.\n"
        f"The status page: http://{environment['CALLSTATSD_HTTP_LISTEN']}/\n"
        "Try in another terminal:"
    )
    for command, purpose in (
        ("status", "counts per state, and what the sender does"),
        ("acd events", "events of the ACD; the last is the alert about the refused callback"),
        (f"show {sample_calls.EXAMPLE_CALL}", "what happened to one call"),
        (f"show --callback {REJECTED_CALLBACK}", "what happened to a callback request"),
        (
            f"requeue --state delivered --call-id {sample_calls.EXAMPLE_CALL}",
            "sends its lines again: see the log here and the page",
        ),
    ):
        say_command(f"{program} {command} --env-file {path}")
        say(f"      {purpose}", hanging=6)
    waiting = asyncio.create_task(signals.wait())
    ending = asyncio.create_task(daemon.wait())
    await asyncio.wait({waiting, ending}, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    if not waiting.done():
        waiting.cancel()
        raise CallstatsdError("the daemon ended unexpectedly; its last log lines above say why")


def _write_env_file(environment: dict[str, str], folder: Path) -> Path:
    """Write the settings for commands against the running demo; only this user may read them."""
    path = folder / ENV_FILE
    path.touch(mode=0o600)
    own = {name: value for name, value in environment.items() if name.startswith("CALLSTATSD_")}
    # The format of the log is left to each command.
    del own["CALLSTATSD_LOG_FORMAT"]
    path.write_text("".join(f"{name}={value}\n" for name, value in own.items()), encoding="utf-8")
    return path


def _program() -> str:
    """Return the command that starts this program from any folder."""
    beside = Path(sys.executable).with_name("callstatsd")
    found = shutil.which("callstatsd")
    if found is not None and Path(found).resolve() == beside.resolve():
        return "callstatsd"
    return str(beside) if beside.exists() else f"{sys.executable} -m daemon"


@asynccontextmanager
async def _simulate_faults(
    server: ClosableServer, seed: int, lines: int
) -> AsyncIterator[FaultInjector]:
    """Simulate faults; Salesforce is slowed down so that the lines last for half of the time."""
    salesforce = server.salesforce
    salesforce.work = min(0.5, CONCURRENCY * FAULTS_LAST / 2 / lines)
    salesforce.rule = faults = all_faults(seed, time.monotonic(), FAULTS_LAST)
    outage = asyncio.create_task(server.interrupt(OUTAGE_AFTER, OUTAGE_LASTS))
    try:
        yield faults
    finally:
        outage.cancel()
        await asyncio.gather(outage, return_exceptions=True)


def _environment(dsn: str, url: str, options: DemoOptions) -> dict[str, str]:
    """Return the environment of the demo's daemon: no other settings than these."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("CALLSTATSD_")}
    yesterday = datetime.now(UTC) - timedelta(days=1)
    needed = {
        "CALLSTATSD_SOURCE_DSN": dsn,
        "CALLSTATSD_SOURCE_SCHEMAS": SCHEMA,
        "CALLSTATSD_TOKEN_URL": f"{url}{standin.TOKEN_PATH}",
        "CALLSTATSD_CLIENT_ID": grants.CLIENT_ID,
        "CALLSTATSD_CLIENT_SECRET": grants.CLIENT_SECRET,
        "CALLSTATSD_CALLBACK_URL": standin.CALLBACK_PATH,
        "CALLSTATSD_START_FROM": yesterday.isoformat(),
        "CALLSTATSD_HTTP_LISTEN": f"127.0.0.1:{_free_port()}" if options.stay else "",
        "CALLSTATSD_LOG_FORMAT": "json",
    }
    needed |= dials.settings(_free_port())
    needed |= acd_standin.settings(url)
    return own | needed | (SHORT_RETRIES if options.faults else {})


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


async def _command(name: str, *options: str, environment: dict[str, str], folder: str) -> Process:
    # In its own folder, so that the user's .env is not read.
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
    now = datetime.now(UTC)
    sample = sample_calls.day(calls, seed, now)
    sample.events.extend(callback_requests(sample, now))
    connection = await asyncpg.connect(dsn)
    try:
        await load(connection, sample, SCHEMA)
    finally:
        await connection.close()
    return max(len(sample.calls), len(sample.legs))


@asynccontextmanager
async def _daemon(
    environment: dict[str, str], folder: str, events: summary.EventPrinter
) -> AsyncIterator[Process]:
    """Run the daemon and print its log; SIGTERM stops it when the block ends."""
    daemon = await _command("run", environment=environment, folder=folder)
    assert daemon.stderr is not None  # noqa: S101 - it is a pipe
    log = asyncio.create_task(events.follow(daemon.stderr))
    try:
        yield daemon
    finally:
        if daemon.returncode is None:
            daemon.terminate()
            await daemon.wait()
        await log


async def _settle(
    dsn: str,
    shown: Console,
    daemon: Process,
    salesforce: standin.StandIn,
    lines: int,
    faults: FaultInjector | None,
) -> summary.Outcome:
    """Show the progress until every line is settled, and the alert about one of them is raised."""
    loaded = datetime.now(UTC)
    began = time.monotonic()
    seconds: float | None = None
    with progress_bar(shown, transient=True) as progress:
        task = progress.add_task("starting", total=lines, counted="")

        def show(overview: StatusReport) -> None:
            total, pending = sum(overview.lines.values()), overview.lines["pending"]
            doing = "sending" if seconds is None else "waiting for the alert"
            progress.update(
                task,
                description=doing if total else "starting",
                total=total or lines,
                completed=total - pending,
                counted=f"{total - pending:,} of {total or lines:,} lines settled",
            )

        async with open_ledger(dsn, "callstatsd") as ledger:
            operator_store = OperatorStore(ledger.database)
            while True:
                overview = await operator_store.overview(callbacks=True, alerts=True)
                if seconds is None and _is_settled(overview, loaded):
                    seconds = time.monotonic() - began
                show(overview)
                if seconds is not None and _is_alerted(overview):
                    break
                if daemon.returncode is not None or time.monotonic() - began > TIME_LIMIT:
                    raise CallstatsdError(
                        "the daemon ended or took too long before every line was settled"
                    )
                await asyncio.sleep(REFRESH_EVERY)
            example = await operator_store.call(sample_calls.EXAMPLE_CALL)
    return summary.Outcome(overview, salesforce, example, faults, seconds)


def _is_settled(overview: StatusReport, loaded: datetime) -> bool:
    """Whether all that was loaded is taken, after the delays of calls and callbacks, and sent."""
    reports = ((overview, 120), (overview.callbacks, 30))
    return _nothing_pending(overview) and all(
        report is not None
        and report.status.watermark is not None
        and report.status.watermark >= loaded - timedelta(seconds=delay)
        for report, delay in reports
    )


def _is_alerted(overview: StatusReport) -> bool:
    return overview.alert is not None and overview.alert.raised_at is not None


def _nothing_pending(overview: StatusReport) -> bool:
    callbacks = overview.callbacks
    return not (overview.lines["pending"] or (callbacks and callbacks.lines["pending"]))
