"""`callstatsd run`: one active instance that polls and sends, until it is told to stop."""

import asyncio
from functools import partial

import structlog

from daemon import logs, metrics
from daemon.delivery.outcome_writer import OutcomeWriter
from daemon.delivery.sender import DRAIN_EXTRA
from daemon.errors import CallstatsdError, UnreachableError, first_error
from daemon.ledger.lease import TRY_EVERY, Lease
from daemon.ledger.operator import OperatorStore
from daemon.service.instance import (
    Instance,
    check_ledger,
    ledger_code,
    open_databases,
    open_salesforce,
    patiently,
)
from daemon.service.lifecycle import SystemdNotifier, run_until, sleep_or_stop
from daemon.service.watchdog import Loop
from daemon.settings.model import Settings
from daemon.web.cache import StatusReader
from daemon.web.health import InstanceState
from daemon.web.listener import listening
from daemon.web.page import watched

_log = structlog.get_logger()

FINAL_FLUSH = 1.0
"""Seconds to write what is left when the daemon must end at once."""


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set; then finish what is in flight.

    Databases that are away are waited for. Raises `ConfigurationError` for a ledger or source
    that is not ours to use, `SettleTimeoutError` when outcomes cannot be written for too long.
    """
    notifier, condition = SystemdNotifier(), InstanceState()
    metrics.describe_build(ledger_code(settings))
    async with (
        open_databases(settings) as (source, ledger),
        open_salesforce(settings) as salesforce,
        Lease(ledger.database, is_daemon=True) as lease,
        StatusReader(OperatorStore(ledger.database)) as reader,
        listening(watched(settings, source, ledger, condition, reader), settings.http_listen),
    ):
        writer = OutcomeWriter(ledger, settings.retry_for)
        try:
            async with asyncio.TaskGroup() as group:
                drain = settings.request_timeout + 4 * DRAIN_EXTRA
                attending = group.create_task(notifier.run(stop, drain))
                check = partial(check_ledger, settings, source, ledger)
                await patiently(check, stop, partial(_waits, notifier))
                settling = group.create_task(writer.run())
                site = Instance(
                    settings, source, ledger, salesforce, writer, lease, notifier, condition, reader
                )
                while not stop.is_set():
                    if await _acquire(lease, notifier, stop):
                        await site.run_active(stop, poll=True)
                await writer.finish(DRAIN_EXTRA)
                settling.cancel()
                attending.cancel()
        except* CallstatsdError as group_error:
            raise first_error(group_error) from group_error
        finally:
            if writer.waiting:
                await writer.finish(FINAL_FLUSH)
        _log.info(logs.DAEMON_STOPPED)


async def _acquire(lease: Lease, notifier: SystemdNotifier, stop: asyncio.Event) -> bool:
    """Wait until this instance has the ledger's lock; False when told to stop before."""
    told = False
    while not stop.is_set():
        try:
            # A connection to a silent server may take long to fail.
            if await run_until(stop, lease.try_acquire()):
                notifier.watch.progressed(*Loop)
                return True
            if stop.is_set():
                break
            if not told:
                _log.info(logs.DAEMON_STANDBY)
                told = True
            notifier.ready("standing by: another instance has the ledger")
            notifier.watch.progressed(*Loop)
        except UnreachableError as error:
            _log.debug(logs.DAEMON_WAITING, error=str(error))
            _waits(notifier)
        await sleep_or_stop(stop, TRY_EVERY)
    return False


def _waits(notifier: SystemdNotifier) -> None:
    """Tell systemd that the ledger is waited for, which is a turn of all that cannot work now."""
    notifier.status("waiting for the ledger database")
    notifier.watch.progressed(*Loop)
