"""`callstatsd run`: one active instance that polls and sends, until it is told to stop."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    RetryError,
    retry_if_exception_type,
    wait_exponential,
)

from daemon import __version__, logs
from daemon.auth import (
    ClientCredentials,
    FixedToken,
    Grant,
    OAuthTokens,
    Password,
    Tokens,
    jwt_bearer,
)
from daemon.backoff import Backoff
from daemon.errors import (
    CallstatsdError,
    LeaseLostError,
    UnreachableError,
)
from daemon.intake import Form, Intake
from daemon.lease import Lease
from daemon.ledger import Beat, Ledger, open_ledger
from daemon.lifecycle import Notifier
from daemon.pace import Pace
from daemon.poller import Poller, Rules, pause
from daemon.salesforce import Endpoint, Salesforce, open_session
from daemon.sender import Limits, Sender
from daemon.settings import Auth, EmptyAs, Settings
from daemon.source import Source, open_source

_log = structlog.get_logger()

BEAT_EVERY = 2.0
"""Seconds between two words of the active instance to `status`."""
STANDBY_EVERY = 1.0
"""Seconds between two tries of a standing-by instance to take over."""
LONGEST_WAIT = 5.0
"""Seconds between two tries to reach a database that is away."""


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set; then finish what is in flight.

    Databases that are away are waited for. Raises `ConfigurationError` for a ledger or source
    that is not ours to use, `UnwritableError` when outcomes cannot be written for too long.
    """
    notifier = Notifier()
    async with (
        open_source(
            settings.source_dsn.get_secret_value(),
            settings.source_schemas,
            settings.source_timezone,
            settings.clients_id,
        ) as source,
        open_ledger(settings.ledger_dsn.get_secret_value(), settings.ledger_schema) as ledger,
        _open_salesforce(settings) as salesforce,
        Lease(ledger.database) as lease,
    ):
        await _patiently(ledger.check_version, stop)
        while not stop.is_set():
            if await _acquire(lease, notifier, stop):
                await _be_active(settings, source, ledger, salesforce, lease, notifier, stop)
        notifier.stopping()
        _log.info(logs.DAEMON_STOPPED)


async def _acquire(lease: Lease, notifier: Notifier, stop: asyncio.Event) -> bool:
    """Wait until this instance has the ledger's lock; False when told to stop before."""
    told = False
    while not stop.is_set():
        try:
            if await lease.try_acquire():
                return True
            if not told:
                _log.info(logs.DAEMON_STANDBY)
                notifier.ready("standing by")
                told = True
        except UnreachableError as error:
            _log.debug(logs.DAEMON_WAITING, error=str(error))
        await pause(stop, STANDBY_EVERY)
    return False


async def _be_active(
    settings: Settings,
    source: Source,
    ledger: Ledger,
    salesforce: Salesforce,
    lease: Lease,
    notifier: Notifier,
    stop: asyncio.Event,
) -> None:
    """Poll and send while the lock is held; return when it is lost or stop is set."""
    try:
        progress = await ledger.progress()
        backoff = Backoff(settings.retry_initial, settings.retry_max)
        pace = Pace(settings.concurrency, backoff, endpoint_proven=progress.endpoint_proven)
        limits = Limits(
            concurrency=settings.concurrency,
            request_timeout=settings.request_timeout,
            retry_for=settings.retry_for,
            idle=min(1.0, settings.poll_interval),
        )
        sender = Sender(ledger, salesforce, pace, backoff, limits, lambda: lease.held)
        heart = Heart(ledger, sender)
        await heart.begin()
        _log.info(logs.DAEMON_STARTED, version=__version__, concurrency=settings.concurrency)
        notifier.ready("active")
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(lease.keep()), group.create_task(heart.run())]
            polling = group.create_task(_poll(settings, source, ledger, sender, stop))
            await sender.run(stop)
            await polling
            for task in background:
                task.cancel()
        await heart.end()
    except* LeaseLostError as lost:
        _log.warning(logs.DAEMON_STANDBY, error=str(lost.exceptions[0]))
    except* UnreachableError as away:
        _log.debug(logs.DAEMON_WAITING, error=str(away.exceptions[0]))
        await pause(stop, STANDBY_EVERY)
    except* CallstatsdError as group:
        raise group.exceptions[0] from group


class Heart:
    """Writes every few seconds what this instance does, and hears what operators want."""

    def __init__(self, ledger: Ledger, sender: Sender) -> None:
        """Take whose state to tell, and where."""
        self._ledger = ledger
        self._sender = sender
        self._started = time.monotonic()

    async def begin(self) -> None:
        """Learn of an operator's pause before anything is sent; end what a dead instance left.

        A pause that it could not close counts against no line, nor does the time since.
        """
        await self._beat()
        if not self._sender.held:
            await self._ledger.pause_ended()

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(BEAT_EVERY)
            try:
                await self._beat()
            except UnreachableError as error:
                _log.debug(logs.DAEMON_UNHEARD, error=str(error))

    async def end(self) -> None:
        """Say that this instance stopped in order."""
        await self._beat(stopped=True)

    async def _beat(self, *, stopped: bool = False) -> None:
        paused = self._sender.paused
        reason, retry_in = paused or (None, None)
        held = await self._ledger.beat(
            Beat(
                host=socket.gethostname(),
                pid=os.getpid(),
                version=__version__,
                uptime=time.monotonic() - self._started,
                state="stopped" if stopped else "paused" if paused else "sending",
                reason=reason,
                retry_in=retry_in,
                stopped=stopped,
            )
        )
        self._sender.hold(held=held is not None)


async def _poll(
    settings: Settings, source: Source, ledger: Ledger, sender: Sender, stop: asyncio.Event
) -> None:
    form = Form(
        settings.source_timezone,
        settings.empty_as is EmptyAs.STRING,
        settings.send_without_salesforce_id,
    )
    rules = Rules(
        timedelta(seconds=settings.settle_delay),
        timedelta(seconds=settings.stale_call_after),
        settings.start_from,
    )
    poller = Poller(source, ledger, Intake(source, ledger, form), rules, sender.wake)

    async def prepare() -> None:
        await poller.prepare(settings.clients_id, settings.source_schemas)

    await _patiently(prepare, stop)
    await poller.run(settings.poll_interval, stop)


async def _patiently(call: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
    """Call until its database is there, or until told to stop."""

    def told_to_stop(_: RetryCallState) -> bool:
        return stop.is_set()

    waits = AsyncRetrying(
        retry=retry_if_exception_type(UnreachableError),
        wait=wait_exponential(multiplier=0.1, max=LONGEST_WAIT),
        stop=told_to_stop,
        sleep=partial(pause, stop),
    )
    try:
        await waits(call)
    except RetryError:
        _log.debug(logs.DAEMON_WAITING, stopped=True)


@asynccontextmanager
async def _open_salesforce(settings: Settings) -> AsyncIterator[Salesforce]:
    async with open_session(__version__, settings.request_timeout) as session:
        grant = _grant(settings)
        tokens: Tokens
        if grant is None:
            bearer = settings.auth is Auth.BEARER
            tokens = FixedToken(settings.bearer_token.get_secret_value() if bearer else None)
        else:
            tokens = OAuthTokens(session, settings.token_url, grant)
        yield Salesforce(session, Endpoint(settings.endpoint_url), tokens)


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
