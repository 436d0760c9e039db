"""`callstatsd backfill`: takes a window of a feed once, and waits until it is delivered."""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from daemon import logs
from daemon.delivery.outcome_writer import DRAIN_EXTRA, open_writer
from daemon.errors import (
    CallstatsdError,
    ConfigurationError,
    UnreachableError,
    UnusableError,
    first_error,
)
from daemon.ingest.feed import UNREADABLE, Feed, Page
from daemon.ingest.intake import Intake
from daemon.ingest.readiness import Window
from daemon.ingest.source import Source
from daemon.ledger.acts import Act, ActKind, operator
from daemon.ledger.binding import Binding
from daemon.ledger.lease import Lease
from daemon.ledger.operator import OperatorStore
from daemon.ledger.store import Ledger
from daemon.lines import (
    MICROSECOND,
    FeedName,
    LineKey,
    NewLine,
    SkipReason,
    State,
    missing_keys,
)
from daemon.service.connections import feeds, open_databases, open_salesforce
from daemon.service.instance import Instance
from daemon.service.systemd import SystemdNotifier
from daemon.settings.model import Settings
from daemon.tasks import in_background, run_until, run_within, sleep_or_stop
from daemon.web.cache import StatusReader
from daemon.web.health import InstanceState

_log = structlog.get_logger()

LOOK_EVERY = 0.5
NEARLY_DONE = 500
"""Lines that are left when the end is looked for more often: they are sent in a moment."""
LOOK_SOON = 0.05
"""Seconds between two reads of what the sender has done."""
PAUSED_FOR = 300.0
"""Seconds of one pause after which a backfill gives up waiting."""


class WindowPrunedError(CallstatsdError):
    """Retention has removed lines of the window, so that nobody knows what was sent."""


@dataclass(slots=True)
class BackfillProgress:
    """How far a backfill is; `total` calls are in the window, `pending` of its lines unsent."""

    total: int = 0
    calls: int = 0
    lines: int = 0
    new: int = 0
    resent: int = 0
    pending: int = 0
    taken: bool = False
    states: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Period:
    """Calls that ended, or requests created, in [since, until), as asked for."""

    since: datetime
    until: datetime


async def backfill(
    settings: Settings,
    period: Period,
    stop: asyncio.Event,
    show: Callable[[BackfillProgress], None],
    *,
    dry_run: bool,
    resend: bool,
    wait: bool,
    name: FeedName = FeedName.STATISTICS,
    paused_for: float = PAUSED_FOR,
) -> BackfillProgress:
    """Run a whole backfill of a feed; returns its progress, complete unless `stop` was set.

    Raises `ConfigurationError` for a source or ledger that is not ours or a feed that is off,
    `WindowPrunedError`, and `UnreachableError` when a database is away or the sender is paused for
    `paused_for` seconds.
    """
    began = time.monotonic()
    async with open_databases(settings) as (source, ledger), AsyncExitStack() as stack:
        await ledger.check_version()
        clock = await source.clock()
        await ledger.check_binding(
            Binding(settings.clients_id, clock.database, settings.source_schemas)
        )
        on = feeds(settings, source)
        if name not in on:
            raise ConfigurationError("callbacks are off: set CALLSTATSD_CALLBACK_URL")
        for one in on.values():
            await one.prepare()
        ensure_retention_locked = await stack.enter_async_context(ledger.retention_locked())
        feed = on[name]
        intake = Intake(feed, ledger)
        act = Act(
            ActKind.BACKFILL,
            operator(),
            since=period.since,
            until=period.until,
            resend=resend,
            feed=name,
        )
        work = Backfill(
            feed, ledger, intake, period, show, ensure_retention_locked, act, paused_for
        )
        window = await work.prepare(resend=resend)
        if dry_run:
            await run_until(stop, work.count(window, resend=resend))
            work.progress.seconds = time.monotonic() - began
            return work.progress
        if wait:
            await _take_and_send(settings, source, ledger, work, window, stop, resend=resend)
        else:
            await run_until(stop, work.take(window, resend=resend))
        return await work.finish(began)


async def _take_and_send(
    settings: Settings,
    source: Source,
    ledger: Ledger,
    work: "Backfill",
    window: Window,
    stop: asyncio.Event,
    *,
    resend: bool,
) -> None:
    """Take the window, and wait until its lines are sent: by a `run`, or else by this process."""
    async with (
        Lease(ledger.database, is_daemon=False) as lease,
        open_salesforce(settings, lease) as salesforce,
    ):
        try:
            async with open_writer(ledger, settings.retry_for) as writer:
                instance = Instance(
                    *(settings, source, ledger, salesforce, writer, lease),
                    SystemdNotifier(),
                    InstanceState(),
                    StatusReader(OperatorStore(ledger.database)),
                )
                done = asyncio.Event()
                async with asyncio.TaskGroup() as group:
                    group.create_task(send_without_daemon(instance, done))
                    taking = group.create_task(work.take(window, resend=resend))
                    try:
                        await work.watch(stop)
                    finally:
                        taking.cancel()
                        done.set()
        except* CallstatsdError as errors:
            raise first_error(errors) from errors


async def send_without_daemon(instance: Instance, stop: asyncio.Event) -> None:
    """Send until stop, but only while no `run` is here; hand over to one that comes."""
    lease = instance.lease
    while not stop.is_set():
        try:
            if not await lease.daemon_waiting() and await lease.try_acquire():
                handing_over = asyncio.Event()
                async with in_background(_hand_over(lease, stop, handing_over)):
                    await instance.run_active(handing_over, poll=False)
                # The next sender must not send again lines whose outcome is not written yet.
                await run_within(DRAIN_EXTRA, instance.writer.wait_written())
                lease.release()
        except* UnusableError as errors:
            _log.debug(logs.DAEMON_WAITING, error=str(first_error(errors)))
        await sleep_or_stop(stop, LOOK_EVERY)


async def _hand_over(lease: Lease, stop: asyncio.Event, handing_over: asyncio.Event) -> None:
    """Set `handing_over` on stop, or when a `run` has come."""
    daemon_waiting = False
    while not (daemon_waiting or stop.is_set()):
        await sleep_or_stop(stop, LOOK_EVERY)
        try:
            daemon_waiting = await lease.daemon_waiting()
        except UnusableError as error:
            _log.debug(logs.DAEMON_WAITING, error=str(error))
    handing_over.set()


class Backfill:
    """One window, once; started again it leaves alone what the ledger has.

    `show` is called when there is progress. `ensure_retention_locked` raises `UnreachableError`
    if retention may have removed lines meanwhile. `act` is the recorded command.
    """

    def __init__(
        self,
        feed: Feed,
        ledger: Ledger,
        intake: Intake,
        period: Period,
        show: Callable[[BackfillProgress], None],
        ensure_retention_locked: Callable[[], None],
        act: Act,
        paused_for: float = PAUSED_FOR,
    ) -> None:
        self._feed = feed
        self._ledger = ledger
        self._operator_store = OperatorStore(ledger.database, feed.name)
        self._intake = intake
        self._period = period
        self._show = show
        self._ensure_retention_locked = ensure_retention_locked
        self._act = act
        self._paused_for = paused_for
        self.progress = BackfillProgress()

    async def prepare(self, *, resend: bool) -> Window:
        """Return the window's ready part; raises `WindowPrunedError` unless `resend`.

        The error names the earliest time to begin, in the ACD server's zone.
        """
        pruned = await self._operator_store.pruned_before()
        if pruned is not None and self._period.since <= pruned and not resend:
            zone = self._feed.rules.zone
            earliest = (pruned + timedelta(seconds=1)).astimezone(zone)
            callbacks = self._feed.name is FeedName.CALLBACKS
            earlier = "callback requests created" if callbacks else "calls that ended"
            raise WindowPrunedError(
                f"lines of {earlier} earlier were removed by CALLSTATSD_RETENTION, so nobody "
                f"knows which were sent: begin at {earliest:%Y-%m-%dT%H:%M:%S} or later, "
                "or send all of them (again) with --resend"
            )
        ready = self._feed.rules.ended_by(await self._feed.clock())
        window = Window(self._period.since, min(self._period.until - MICROSECOND, ready))
        self.progress.total = await self._feed.count(window)
        return window

    async def count(self, window: Window, *, resend: bool) -> None:
        """Count calls, lines, new lines and what `resend` would send again; changes nothing."""
        async for page in self._feed.ready_in(window):
            call_ids = [found.call_id for found in page.found]
            keys = await self._feed.keys(call_ids)
            have = await self._ledger.known(self._feed.name, call_ids)
            new = len(missing_keys(keys, have))
            if resend:
                settled = await self._ledger.settled(self._feed.name, call_ids)
                here: set[LineKey] = set()
                async with aclosing(self._feed.new_lines(page.found)) as pages:
                    async for entries in pages:
                        here |= {entry.key for entry in entries}
                        self.progress.resent += _sent_again(entries, settled)
                gone = await self._gone(call_ids, have - here)
                self.progress.resent += _sent_again(gone, settled)
            else:
                new += await self._count_passing(page, call_ids)
            self._count(page, len(keys), new)

    async def take(self, window: Window, *, resend: bool) -> None:
        """Take the window page by page; with `resend` settled lines are made anew and sent."""
        act_id = await self._operator_store.begin(self._act)
        async for page in self._feed.ready_in(window):
            here: set[LineKey] = set()
            added = 0
            async with aclosing(self._feed.new_lines(page.found)) as pages:
                async for entries in pages:
                    self._ensure_retention_locked()
                    new = await self._intake.insert(entries, backfill=True, act=act_id)
                    here |= {entry.key for entry in entries}
                    added += len(new)
                    known = [entry for entry in entries if entry.key not in new]
                    if resend:
                        await self._renew(known, act_id)
                    else:
                        added += await self._take_up(known, act_id)
            if resend:
                call_ids = [found.call_id for found in page.found]
                have = await self._ledger.known(self._feed.name, call_ids)
                # Also lines whose leg or code is gone by now, or whose leg has a code since.
                await self._renew(await self._gone(call_ids, have - here), act_id)
            self._count(page, len(here), added)
        await self._operator_store.end(act_id)
        self.progress.taken = True

    async def _take_up(self, known: Sequence[NewLine], act_id: int) -> int:
        """Take the lines that a filter once kept out and lets pass now; returns how many."""
        passing = await self._passing(known)
        if not passing:
            return 0
        reason = SkipReason.FILTERED
        taken = await self._operator_store.renew(
            passing, act_id, (State.SKIPPED,), backfill=True, skip_reason=reason
        )
        return len(taken)

    async def _passing(self, known: Sequence[NewLine]) -> list[NewLine]:
        """Return those of known lines that a filter once kept out and lets pass now.

        Not one whose rows cannot be read: nobody knows whether it would pass.
        """
        passing = [
            entry
            for entry in known
            if entry.skip_reason is not SkipReason.FILTERED and entry.error != UNREADABLE
        ]
        if not passing:
            return []
        call_ids = sorted({entry.key.source_id for entry in passing})
        filtered = await self._ledger.filtered(self._feed.name, call_ids)
        return [entry for entry in passing if entry.key in filtered]

    async def _count_passing(self, page: Page, call_ids: Sequence[int]) -> int:
        """Return how many lines of a page a filter once kept out and lets pass now."""
        filtered = {key.source_id for key in await self._ledger.filtered(self._feed.name, call_ids)}
        passing = 0
        found = [row for row in page.found if row.call_id in filtered]
        async with aclosing(self._feed.new_lines(found)) as pages:
            async for entries in pages:
                passing += len(await self._passing(entries))
        return passing

    async def _gone(self, call_ids: Sequence[int], keys: set[LineKey]) -> list[NewLine]:
        """Return lines made anew whose rows have changed since they were taken.

        Not what a filter has kept out: without its rows nobody knows whether it would pass.
        """
        if not keys:
            return []
        keys = keys - await self._ledger.filtered(self._feed.name, call_ids)
        return await self._feed.lines_by_key(sorted(keys))

    async def _renew(self, entries: Sequence[NewLine], act_id: int) -> None:
        renewed = (
            await self._operator_store.renew(entries, act_id, backfill=True) if entries else {}
        )
        self.progress.resent += sum(state is State.PENDING for state in renewed.values())

    async def watch(self, stop: asyncio.Event) -> None:
        """Wait until stop, or until all is taken and sent.

        Raises `UnreachableError` when a pause lasts for `paused_for` seconds.
        """
        paused_since: float | None = None
        while not stop.is_set():
            progress = self.progress
            # Read before the count: what is taken after the count is not in it.
            taken = progress.taken
            progress.pending = await self._operator_store.pending_in(
                self._period.since, self._period.until
            )
            self._show(progress)
            if taken and progress.pending == 0:
                return
            reason = await self._pause_reason()
            if reason is None:
                paused_since = None
            else:
                paused_since = paused_since or time.monotonic()
                if time.monotonic() - paused_since >= self._paused_for:
                    minutes = self._paused_for / 60
                    raise UnreachableError(
                        f"the sender has been paused for {minutes:.0f} minutes ({reason}); "
                        f"{progress.pending} lines stay pending, `callstatsd run` will send them"
                    )
            nearly_done = taken and progress.pending < NEARLY_DONE and reason is None
            await sleep_or_stop(stop, LOOK_SOON if nearly_done else LOOK_EVERY)

    async def finish(self, began: float) -> BackfillProgress:
        """Return the window's lines per state and the seconds since, at the end."""
        self.progress.seconds = time.monotonic() - began
        self.progress.states = await self._operator_store.window(
            self._period.since, self._period.until
        )
        return self.progress

    async def _pause_reason(self) -> str | None:
        status = await self._operator_store.status()
        if status.operator_pause is not None:
            return "operator"
        return status.reason if status.active and status.state == "paused" else None

    def _count(self, page: Page, lines: int, new: int) -> None:
        self.progress.calls += len(page.found)
        self.progress.lines += lines
        self.progress.new += new
        self._show(self.progress)


def _sent_again(entries: Sequence[NewLine], settled: Collection[LineKey]) -> int:
    """Return how many of the lines, made anew, `--resend` would send again."""
    return sum(entry.state is State.PENDING and entry.key in settled for entry in entries)
