"""An instance that holds the ledger's lock: it sends, polls where it shall, and tells of itself."""

import asyncio
import hashlib
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import structlog
from tenacity import AsyncRetrying, retry_if_exception, wait_exponential

from daemon import __version__, logs, metrics
from daemon.database.errors import Place
from daemon.delivery.backoff import Backoff
from daemon.delivery.flow_control import FlowControl
from daemon.delivery.outcome_writer import OutcomeWriter
from daemon.delivery.sender import DRAIN_EXTRA, Limits, Sender
from daemon.errors import (
    CallstatsdError,
    ConfigurationError,
    DatabaseSetupError,
    LeaseLostError,
    UnreachableError,
    first_error,
)
from daemon.ingest.intake import Intake
from daemon.ingest.poller import Poller
from daemon.ingest.source import Source, open_source
from daemon.ingest.statistics import RecordOptions, StatisticsFeed
from daemon.ingest.sweeper import Sweeper
from daemon.ledger.binding import Binding
from daemon.ledger.instance import InstanceStatus, Tenure
from daemon.ledger.lease import TRY_EVERY, Lease
from daemon.ledger.operator import OperatorStore
from daemon.ledger.retention import Pruner
from daemon.ledger.store import Ledger, open_ledger
from daemon.lines import FeedName, State
from daemon.reports.lookup import rules_of
from daemon.salesforce.client import EndpointUrl, Salesforce, Session, open_session
from daemon.salesforce.oauth import (
    ClientCredentials,
    FixedToken,
    Grant,
    OAuthTokens,
    Password,
    Tokens,
    jwt_bearer,
)
from daemon.service.lifecycle import SystemdNotifier, run_until, sleep_or_stop, status_line
from daemon.service.watchdog import Loop
from daemon.settings.model import Auth, EmptyAs, Settings
from daemon.web.health import InstanceState

_log = structlog.get_logger()

HEARTBEAT_EVERY = 2.0
"""Seconds between two words of the active instance to `status`."""
PROBE_HEARTBEAT_EVERY = 0.2
"""The same, while somebody waits to hear what a try came to that they asked for."""
STATUS_EVERY = 5.0
"""Seconds between two counts for `systemctl status`."""
MAY_STILL_SEND = "starting in 3 s: the last instance did not stop in order and may still send"
LONGEST_WAIT = 5.0
"""Seconds between two tries to reach a database that is away."""
SOURCE_ANSWERS = 2.0
"""Seconds to wait for the source's name, where the ledger alone is needed."""
LEARNT_WITHIN = 1.0
"""Seconds to wait for outcomes of an earlier lease; the lock must be heard of again soon."""


@dataclass(frozen=True, slots=True)
class Instance:
    """What an active instance works with, whichever lease it is under."""

    settings: Settings
    source: Source
    ledger: Ledger
    salesforce: Salesforce
    writer: OutcomeWriter
    lease: Lease
    notifier: SystemdNotifier
    condition: InstanceState

    async def run_active(self, stop: asyncio.Event, *, poll: bool) -> None:
        """Send, and poll if told to, while the lock is held; return when it is lost or on stop."""
        try:
            self.condition.active = True
            await self._work(stop, poll=poll)
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
            self.condition.active = False
            self.condition.paused = None
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # A task group with errors of its own forgets that it was cancelled from outside.
            raise asyncio.CancelledError

    async def _work(self, stop: asyncio.Event, *, poll: bool) -> None:
        async with asyncio.TaskGroup() as group:
            # First of all: whatever we do or wait for, the lock lives by its pings.
            keeping = group.create_task(self.lease.keep())
            await self._send(stop, poll=poll)
            keeping.cancel()

    async def _send(self, stop: asyncio.Event, *, poll: bool) -> None:
        # While we stood by, somebody may have upgraded the ledger, or bound it to other calls.
        await self.ledger.check_version()
        # The source's name is left to the poller: nobody keeps the lock while we wait for it here.
        binding = Binding(self.settings.clients_id, None, self.settings.source_schemas)
        await self.ledger.check_binding(binding)
        sender = await self._sender()
        leave = asyncio.Event()
        heartbeat = Heartbeat(
            self.ledger, sender, self.condition, binding, self.lease.tenure, leave
        )
        self.lease.on_notice = heartbeat.look
        await heartbeat.begin()
        try:
            if not self.lease.held:
                _log.debug(logs.DAEMON_WAITING, error=MAY_STILL_SEND)
                self.notifier.ready(MAY_STILL_SEND)
            await run_until(stop, self.lease.until_held())
            if not stop.is_set():
                await self._serve(sender, heartbeat, (stop, leave), poll=poll)
        finally:
            if self.lease.held:
                await heartbeat.end()
        if heartbeat.upgrade:
            # Whoever upgrades the ledger shall find all outcomes in it.
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_EXTRA):
                    await self.writer.wait_written()
            raise ConfigurationError(
                "callstatsd migrate is upgrading the ledger; install the new version here too"
            )

    async def _serve(
        self,
        sender: Sender,
        heartbeat: "Heartbeat",
        ends: tuple[asyncio.Event, asyncio.Event],
        *,
        poll: bool,
    ) -> None:
        stop, leave = ends
        _log.info(logs.DAEMON_STARTED, version=__version__, concurrency=self.settings.concurrency)
        self.notifier.ready("sending")
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(heartbeat.run()),
                group.create_task(_follow(stop, leave)),
            ]
            if self.notifier.enabled:
                background.append(group.create_task(self._tell_systemd(sender)))
            if poll:
                background.append(group.create_task(self._poll(sender, leave)))
            await sender.run(leave)
            # A poll under way is cut: the watermark moves only with the lines it covers.
            for task in background:
                task.cancel()

    async def _sender(self) -> Sender:
        settings = self.settings
        # What an earlier lease of ours has learnt of the endpoint must be in the ledger first.
        with suppress(TimeoutError):
            async with asyncio.timeout(LEARNT_WITHIN):
                await self.writer.wait_written()
        progress = await self.ledger.progress(FeedName.STATISTICS)
        failing = await self.ledger.failing_answers(FeedName.STATISTICS)
        self.salesforce.permit = self.lease
        backoff = Backoff(settings.retry_initial, settings.retry_max)
        sender = Sender(
            self.ledger,
            self.salesforce,
            self.writer,
            FlowControl(
                settings.concurrency,
                backoff,
                endpoint_proven=progress.endpoint_proven,
                api_budget=settings.api_budget,
                failing=failing,
            ),
            backoff,
            Limits(
                concurrency=settings.concurrency,
                request_timeout=settings.request_timeout,
                idle=min(1.0, settings.poll_interval),
            ),
            lambda: self.lease.held,
            self.salesforce.ask_address,
        )
        sender.on_turn = partial(self.notifier.watch.progressed, Loop.SENDING)
        return sender

    async def _tell_systemd(self, sender: Sender) -> None:
        """Say every few seconds how many lines wait, until cancelled."""
        operator_store = OperatorStore(self.ledger.database)
        while True:
            try:
                waiting, status = await operator_store.waiting(), await operator_store.status()
            except UnreachableError as error:
                self.notifier.status(str(error))
            else:
                delivered = metrics.counted("callstatsd_lines_total", state=State.DELIVERED)
                now = datetime.now(self.settings.source_timezone)
                self.notifier.status(status_line(waiting, status, sender.paused, delivered, now))
            await asyncio.sleep(STATUS_EVERY)

    async def _poll(self, sender: Sender, stop: asyncio.Event) -> None:
        settings = self.settings
        feed = statistics_feed(settings, self.source)
        intake = Intake(feed, self.ledger)
        poller = Poller(feed, self.ledger, intake, sender.wake, self._has_polled)
        lookback = timedelta(seconds=settings.lookback)
        sweeper = Sweeper(feed, self.ledger, intake, lookback, sender.wake)
        pruner = Pruner(self.ledger, settings.retention, settings.record_retention)

        async def prepare() -> None:
            await poller.prepare(settings.clients_id, settings.source_schemas)

        await patiently(prepare, stop, partial(self._has_polled, 0.0))
        async with asyncio.TaskGroup() as group:
            group.create_task(sweeper.run(stop))
            group.create_task(pruner.run(stop, sweeper.swept))
            group.create_task(poller.run(settings.poll_interval, stop))

    def _has_polled(self, rest: float) -> None:
        self.notifier.watch.progressed(Loop.TAKING, rest_until=time.monotonic() + rest)


class Heartbeat:
    """Writes every few seconds what this instance does, and hears what operators want."""

    def __init__(
        self,
        ledger: Ledger,
        sender: Sender,
        condition: InstanceState,
        binding: Binding,
        tenure: Tenure,
        leave: asyncio.Event,
    ) -> None:
        """Take whose state to tell, and where; whose the ledger must be, and who holds it.

        `leave` is set when the instance shall drain and end, as a migration wants the ledger.
        """
        self._tenure = tenure
        self._leave = leave
        self._condition = condition
        self._binding = binding
        self._ledger = ledger
        self._sender = sender
        self._started = time.monotonic()
        self._noticed = asyncio.Event()
        self._asked: int | None = None
        self._answered: int | None = None
        self.upgrade = False

    def look(self) -> None:
        """Hear at once what a person has just done to the ledger."""
        self._sender.reload()
        self._noticed.set()

    async def begin(self) -> None:
        """Learn of an operator's pause before anything is sent; end what a dead instance left.

        A pause that it could not close counts against no line, nor does the time since.
        """
        await self._ledger.succeed(self._tenure)
        await self._write()
        if not self._sender.operator_paused:
            await self._ledger.pause_ended(FeedName.STATISTICS)

    async def run(self) -> None:
        """Beat until cancelled; raises `ConfigurationError` when the ledger is bound anew.

        Raises `LeaseLostError` when another instance holds it.
        """
        while True:
            answered = self._answered == self._asked
            await sleep_or_stop(
                self._noticed, HEARTBEAT_EVERY if answered else PROBE_HEARTBEAT_EVERY
            )
            self._noticed.clear()
            try:
                await self._write()
                await self._ledger.check_binding(self._binding)
            except UnreachableError as error:
                _log.debug(logs.DAEMON_UNHEARD, error=str(error))

    async def end(self) -> None:
        """Say that this instance stopped in order."""
        await self._write(stopped=True)

    async def _write(self, *, stopped: bool = False) -> None:
        paused = self._sender.paused
        reason, retry_in = paused or (None, None)
        if not self._sender.probing:
            self._answered = self._asked
        wishes = await self._ledger.write_heartbeat(
            InstanceStatus(
                host=socket.gethostname(),
                pid=os.getpid(),
                version=__version__,
                uptime=time.monotonic() - self._started,
                state="stopped" if stopped else "paused" if paused else "sending",
                reason=reason,
                retry_in=retry_in,
                stopped=stopped,
                probe_answered=self._answered,
            ),
            self._tenure,
        )
        if stopped:
            return  # what people want by now is for the next holder to hear
        if wishes.probe != self._asked:
            self._asked = wishes.probe
            self._sender.probe()
        self._sender.set_operator_pause(paused=wishes.pause is not None)
        self._condition.paused = self._sender.paused[0] if self._sender.paused else None
        if wishes.upgrade and not self._leave.is_set():
            self.upgrade = True
            _log.warning(logs.DAEMON_STOPPING, error="callstatsd migrate is upgrading the ledger")
            self._leave.set()


async def _follow(stop: asyncio.Event, leave: asyncio.Event) -> None:
    """Leave when told to stop, too."""
    await stop.wait()
    leave.set()


async def patiently(
    call: Callable[[], Awaitable[object]], stop: asyncio.Event, on_failure: Callable[[], None]
) -> None:
    """Call until its database is there, or until told to stop; one that refuses is an error."""
    waits = AsyncRetrying(
        retry=retry_if_exception(_is_away),
        wait=wait_exponential(multiplier=0.1, max=LONGEST_WAIT),
        before_sleep=lambda _: on_failure(),
    )
    await run_until(stop, waits(call))


def _is_away(error: BaseException) -> bool:
    return isinstance(error, UnreachableError) and not isinstance(error, DatabaseSetupError)


def statistics_feed(settings: Settings, source: Source) -> StatisticsFeed:
    """Return the feed of call statistics, as the settings have it."""
    options = RecordOptions(
        settings.source_timezone,
        settings.empty_as is EmptyAs.STRING,
        settings.send_without_salesforce_id,
    )
    return StatisticsFeed(source, rules_of(settings), options)


def ledger_code(settings: Settings) -> str:
    """Return a short code that is the same for all instances of a ledger, and no secret."""
    place = Place("ledger", settings.ledger_dsn.get_secret_value())
    parts = (place.hosts, place.database, settings.ledger_schema)
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:12]


@asynccontextmanager
async def open_databases(settings: Settings) -> AsyncIterator[tuple[Source, Ledger]]:
    """Open both databases; neither need be there yet."""
    async with (
        open_source(
            settings.source_dsn.get_secret_value(),
            settings.source_schemas,
            settings.source_timezone,
            settings.clients_id,
        ) as source,
        open_ledger(settings.ledger_dsn.get_secret_value(), settings.ledger_schema) as ledger,
    ):
        yield source, ledger


async def check_ledger(settings: Settings, source: Source, ledger: Ledger) -> None:
    """Raise `ConfigurationError` for a ledger of another version, client or source.

    Whoever needs the ledger alone must get on while the source is away: then its name is not
    compared.
    """
    await ledger.check_version()
    asking = asyncio.create_task(source.clock())
    # Not cancelled and waited for: a silent server holds up that too.
    done, _ = await asyncio.wait({asking}, timeout=SOURCE_ANSWERS)
    asking.cancel()
    answered = done and not isinstance(asking.exception(), UnreachableError)
    database = asking.result().database if answered else None
    await ledger.check_binding(Binding(settings.clients_id, database, settings.source_schemas))


@asynccontextmanager
async def open_salesforce(settings: Settings) -> AsyncIterator[Salesforce]:
    """Open the endpoint with its tokens; raises `ConfigurationError` for a key of no use."""
    async with open_tokens(settings) as (session, tokens):
        yield Salesforce(session, EndpointUrl(settings.endpoint_url), tokens)


@asynccontextmanager
async def open_tokens(settings: Settings) -> AsyncIterator[tuple[Session, Tokens]]:
    """Open what fetches tokens, with the connections that it shares with the endpoint."""
    async with open_session(
        __version__,
        settings.request_timeout,
        ca_file=settings.ca_file,
        environment_proxy=settings.environment_proxy,
    ) as session:
        grant = _grant(settings)
        tokens: Tokens
        if grant is None:
            bearer = settings.auth is Auth.BEARER
            tokens = FixedToken(settings.bearer_token.get_secret_value() if bearer else None)
        else:
            tokens = OAuthTokens(session, settings.token_url, grant)
        yield session, tokens


def _grant(settings: Settings) -> Grant | None:
    client_id, secret = settings.client_id, settings.client_secret.get_secret_value()
    match settings.auth:
        case Auth.CLIENT_CREDENTIALS:
            return ClientCredentials(client_id, secret)
        case Auth.PASSWORD:
            password = settings.password.get_secret_value()
            token = settings.security_token.get_secret_value()
            return Password(client_id, secret, settings.username, password + token)
        case Auth.JWT_BEARER:
            key_file = settings.private_key_file or Path()
            return jwt_bearer(client_id, settings.username, key_file, settings.token_url)
        case Auth.BEARER | Auth.NONE:
            return None
