"""The active instance, which holds the ledger's lock: it sends and, in `run`, polls."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog

from daemon import __version__, logs, metrics
from daemon.delivery.backoff import Backoff
from daemon.delivery.channel import Route
from daemon.delivery.flow_control import FlowControl
from daemon.delivery.gate import OrgGate
from daemon.delivery.outcome_writer import DRAIN_EXTRA, OutcomeWriter
from daemon.delivery.sender import Limits, Sender
from daemon.errors import (
    CallstatsdError,
    ConfigurationError,
    DatabaseSetupError,
    LeaseLostError,
    UnreachableError,
    UnusableError,
    first_error,
)
from daemon.ingest.intake import Intake
from daemon.ingest.poller import Poller
from daemon.ingest.source import Source
from daemon.ingest.sweeper import Sweeper
from daemon.ledger.binding import Binding
from daemon.ledger.lease import TRY_EVERY, Lease
from daemon.ledger.retention import Pruner
from daemon.ledger.store import Ledger
from daemon.lines import FeedName, State
from daemon.reports.status import status_line
from daemon.salesforce.client import Salesforce
from daemon.service.alerts import AlertOptions, Alerts
from daemon.service.connections import feeds, open_acd, retry_until_reachable
from daemon.service.heartbeat import Heartbeat
from daemon.service.systemd import Loop, SystemdNotifier
from daemon.settings.model import Settings
from daemon.tasks import in_background, run_until, run_within, sleep_or_stop
from daemon.web.cache import StatusReader
from daemon.web.health import InstanceState

_log = structlog.get_logger()

STATUS_EVERY = 5.0
"""Seconds between two counts for `systemctl status`."""
FIRST = (FeedName.CALLBACKS, FeedName.STATISTICS)
"""Whose live lines go first."""
LOOPS = {FeedName.STATISTICS: Loop.TAKING, FeedName.CALLBACKS: Loop.TAKING_CALLBACKS}
MAY_STILL_SEND = "starting in 3 s: the last instance did not stop in order and may still send"
LEARNT_WITHIN = 1.0
"""Seconds to wait for outcomes of an earlier lease."""


@dataclass(frozen=True, slots=True)
class Instance:
    """What an active instance works with, whichever lease it is under."""

    settings: Settings
    source: Source
    ledger: Ledger
    salesforce: Mapping[FeedName, Salesforce]
    writer: OutcomeWriter
    lease: Lease
    notifier: SystemdNotifier
    state: InstanceState
    reader: StatusReader

    async def run_active(self, stop: asyncio.Event, *, poll: bool) -> None:
        """Send, and poll if asked to, while the lock is held; return when it is lost or on stop."""
        try:
            self.state.active = True
            # First of all: whatever else waits, the lock is kept by its pings.
            async with in_background(self.lease.keep()):
                await self._lead(stop, poll=poll)
        except* LeaseLostError as lost:
            _log.warning(logs.DAEMON_STANDBY, error=str(first_error(lost)))
        except* DatabaseSetupError as group:
            raise first_error(group) from group
        except* UnreachableError as away:
            _log.debug(logs.DAEMON_WAITING, error=str(away.exceptions[0]))
            await sleep_or_stop(stop, TRY_EVERY)
        except* CallstatsdError as group:
            raise first_error(group) from group
        finally:
            self.state.active = False
            self.state.paused = None
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # A task group with errors of its own forgets that it was cancelled from outside.
            raise asyncio.CancelledError

    async def _lead(self, stop: asyncio.Event, *, poll: bool) -> None:
        """Own the instance's row in the ledger, and serve from when requests may start."""
        # On standby the ledger may have been upgraded, or bound to other calls.
        await self.ledger.check_version()
        # The poller compares the source's name: the source may be away.
        binding = Binding(self.settings.clients_id, None, self.settings.source_schemas)
        await self.ledger.check_binding(binding)
        sender = await self._sender()
        leave = asyncio.Event()
        heartbeat = Heartbeat(
            self.ledger,
            sender,
            self.state,
            binding,
            self.lease.tenure,
            leave,
            feeds_on=self.salesforce.keys(),
        )

        def operator_acted() -> None:
            sender.reload()
            heartbeat.wake()

        with self.lease.noticing(operator_acted):
            await heartbeat.begin()
            try:
                if not self.lease.held:
                    _log.debug(logs.DAEMON_WAITING, error=MAY_STILL_SEND)
                    self.notifier.ready(MAY_STILL_SEND)
                await run_until(stop, self.lease.until_held())
                if not stop.is_set():
                    await self._serve(sender, heartbeat, stop, leave, poll=poll)
            finally:
                if self.lease.held:
                    await heartbeat.end()
        if heartbeat.upgrade:
            # The migration must find all outcomes in the ledger.
            await run_within(DRAIN_EXTRA, self.writer.wait_written())
            raise ConfigurationError(
                "callstatsd migrate is upgrading the ledger; install the new version here too"
            )

    async def _sender(self) -> Sender:
        settings = self.settings
        # What an earlier lease of this process learnt of the endpoint is read from the ledger.
        await run_within(LEARNT_WITHIN, self.writer.wait_written())
        backoff = Backoff(settings.retry_initial, settings.retry_max)
        org = OrgGate(settings.concurrency, settings.api_budget)
        return Sender(
            self.ledger,
            [await self._route(feed, org, backoff) for feed in FIRST if feed in self.salesforce],
            self.writer,
            backoff,
            Limits(
                concurrency=settings.concurrency,
                request_timeout=settings.request_timeout,
                idle=min(1.0, settings.poll_interval),
            ),
            lambda: self.lease.held,
            on_progress=partial(self.notifier.watch.progressed, Loop.SENDING),
        )

    async def _route(self, feed: FeedName, org: OrgGate, backoff: Backoff) -> Route:
        """Return where the feed's lines go, and what an earlier sender learnt of the endpoint."""
        progress = await self.ledger.progress(feed)
        flow = FlowControl(
            org,
            self.settings.concurrency,
            backoff,
            endpoint_proven=progress.endpoint_proven,
            failing=await self.ledger.failing_answers(feed),
        )
        endpoint = self.salesforce[feed]
        return Route(feed, endpoint, flow, endpoint.ask_address)

    async def _serve(
        self,
        sender: Sender,
        heartbeat: Heartbeat,
        stop: asyncio.Event,
        leave: asyncio.Event,
        *,
        poll: bool,
    ) -> None:
        """Send until stop or `leave`, with all that runs beside it."""
        _log.info(logs.DAEMON_STARTED, version=__version__, concurrency=self.settings.concurrency)
        self.notifier.ready("sending")
        await self._report_feed_off()
        beside = [heartbeat.run(), _follow(stop, leave)]
        if self.notifier.enabled:
            beside.append(self._report_status(sender))
        if poll:
            beside.append(self._take(sender, leave))
            beside += self._alerts()
        # A poll under way is cut at the end: the watermark moves only with the lines it covers.
        async with in_background(*beside):
            await sender.run(leave)

    def _alerts(self) -> list[Coroutine[Any, Any, None]]:
        """Return what raises alerts, if they are on."""
        settings = self.settings
        if settings.alert_group_id is None:
            return []
        options = AlertOptions(
            settings.alert_group_id, settings.alert_interval, settings.alert_link
        )
        backoff = Backoff(settings.retry_initial, settings.retry_max)

        async def alert() -> None:
            async with open_acd(settings) as acd:
                await Alerts(self.ledger, acd, options, backoff).run(self.lease)

        return [alert()]

    async def _report_feed_off(self) -> None:
        """Warn that callbacks wait in the ledger while they are off."""
        if FeedName.CALLBACKS in self.salesforce:
            return
        if lines := await self.ledger.count_pending(FeedName.CALLBACKS):
            await self.ledger.pause_began(FeedName.CALLBACKS)  # meanwhile none of them expires
            _log.warning(logs.FEED_OFF, feed=FeedName.CALLBACKS, lines=lines)

    async def _take(self, sender: Sender, stop: asyncio.Event) -> None:
        """Poll and sweep each feed that is on, and prune once all were swept."""
        settings = self.settings
        lookback = timedelta(seconds=settings.lookback)
        pruner = Pruner(self.ledger, settings.retention, settings.record_retention)
        swept = []
        async with asyncio.TaskGroup() as group:
            for name, feed in feeds(settings, self.source).items():
                intake = Intake(feed, self.ledger)
                progressed = partial(self._has_polled, LOOPS[name])
                poller = Poller(feed, self.ledger, intake, sender.wake, progressed)
                sweeper = Sweeper(feed, self.ledger, intake, lookback, sender.wake)
                swept.append(sweeper.swept)
                group.create_task(self._take_feed(poller, sweeper, progressed, stop))
            group.create_task(pruner.run(stop, *swept))

    async def _take_feed(
        self,
        poller: Poller,
        sweeper: Sweeper,
        progressed: Callable[[float], None],
        stop: asyncio.Event,
    ) -> None:
        settings = self.settings

        async def prepare() -> None:
            await poller.prepare(settings.clients_id, settings.source_schemas)

        await retry_until_reachable(prepare, stop, partial(progressed, 0.0))
        async with asyncio.TaskGroup() as group:
            group.create_task(sweeper.run(stop))
            group.create_task(poller.run(settings.poll_interval, stop))

    def _has_polled(self, loop: Loop, rest: float) -> None:
        self.notifier.watch.progressed(loop, rest_until=time.monotonic() + rest)

    async def _report_status(self, sender: Sender) -> None:
        """Set the line for `systemctl status` every few seconds, until cancelled."""
        while True:
            try:
                backlog, status = await self.reader.backlog(), await self.reader.status()
            except UnusableError as error:
                self.notifier.status(str(error))
            else:
                pause, pending = status.operator_pause, backlog.lines[State.PENDING]
                self.notifier.status(
                    status_line(
                        pending=pending,
                        oldest_pending_seconds=backlog.oldest_pending_seconds,
                        need_action=sum(backlog.lines.values()) - pending,
                        delivered=metrics.counted("callstatsd_lines_total", state=State.DELIVERED),
                        watermark=status.watermark,
                        paused=sender.status().paused,
                        operator_reason=pause.reason if pause is not None else None,
                        now=datetime.now(self.settings.source_timezone),
                    )
                )
            await asyncio.sleep(STATUS_EVERY)


async def _follow(stop: asyncio.Event, leave: asyncio.Event) -> None:
    """Set `leave` on stop, too."""
    await stop.wait()
    leave.set()
