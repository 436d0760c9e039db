"""`callstatsd run`: one active instance that polls and sends, until stop."""

import asyncio
from functools import partial

import structlog

from daemon import logs, metrics
from daemon.delivery.outcome_writer import DRAIN_EXTRA, open_writer
from daemon.errors import CallstatsdError, UnusableError, first_error
from daemon.ledger.lease import TRY_EVERY, Lease
from daemon.ledger.operator import OperatorStore
from daemon.service.api import serving_api
from daemon.service.connections import (
    check_ledger,
    endpoints,
    ledger_code,
    open_databases,
    open_tokens,
    retry_until_reachable,
)
from daemon.service.instance import Instance
from daemon.service.systemd import TWO_LOOPS, Loop, SystemdNotifier
from daemon.service.telegra import check_tables, open_telegra
from daemon.settings.model import Settings
from daemon.tasks import in_background, run_until, sleep_or_stop
from daemon.web.cache import StatusReader
from daemon.web.health import InstanceState
from daemon.web.listener import listening
from daemon.web.page import watched

_log = structlog.get_logger()


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set; then finish what is in flight.

    Databases that are away are waited for. Raises `ConfigurationError` for a ledger or source
    that is not ours to use, `SettleTimeoutError` when outcomes cannot be written for too long.
    """
    loops = set(Loop) if settings.callback_url else TWO_LOOPS
    notifier, state = SystemdNotifier(loops), InstanceState()
    drain = settings.request_timeout + 4 * DRAIN_EXTRA
    metrics.describe_build(ledger_code(settings))
    async with (
        open_databases(settings) as (source, ledger),
        Lease(ledger.database, is_daemon=True) as lease,
        open_tokens(settings) as (session, tokens),
        StatusReader(OperatorStore(ledger.database)) as reader,
        listening(watched(settings, source, ledger, state, reader), settings.http_listen),
        open_telegra(settings, ledger, state) as telegra,
        serving_api(settings, source, session, tokens, telegra.door if telegra else None, stop),
    ):
        salesforce = endpoints(settings, session, tokens, lease)
        try:
            async with (
                in_background(notifier.run(stop, drain), check_tables(telegra, stop)),
                open_writer(ledger, settings.retry_for) as writer,
            ):
                check = partial(check_ledger, settings, source, ledger)
                await retry_until_reachable(check, stop, partial(_report_waiting, notifier))
                instance = Instance(
                    settings, source, ledger, salesforce, writer, lease, notifier, state, reader
                )
                while not stop.is_set():
                    if await _acquire(lease, notifier, stop):
                        await instance.run_active(stop, poll=True)
        except* CallstatsdError as errors:
            raise first_error(errors) from errors
        finally:
            # First of all that is closed: a standby takes over.
            lease.release()
        _log.info(logs.DAEMON_STOPPED)


async def _acquire(lease: Lease, notifier: SystemdNotifier, stop: asyncio.Event) -> bool:
    """Wait until this instance has the ledger's lock; False if stop comes first."""
    logged = False
    while not stop.is_set():
        try:
            # A connection to a silent server may take long to fail.
            if await run_until(stop, lease.try_acquire()):
                notifier.watch.progressed(*Loop)
                return True
            if stop.is_set():
                break
            if not logged:
                _log.info(logs.DAEMON_STANDBY)
                logged = True
            notifier.ready("standing by: another instance has the ledger")
            notifier.watch.progressed(*Loop)
        except UnusableError as error:
            _log.debug(logs.DAEMON_WAITING, error=str(error))
            _report_waiting(notifier)
        await sleep_or_stop(stop, TRY_EVERY)
    return False


def _report_waiting(notifier: SystemdNotifier) -> None:
    """Report to systemd that the ledger is waited for; no loop can make progress now."""
    notifier.status("waiting for the ledger database")
    notifier.watch.progressed(*Loop)
