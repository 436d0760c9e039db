"""`callstatsd run`: one active instance that polls and sends, until it is told to stop."""

import asyncio

import structlog

from daemon import logs
from daemon.active import STANDBY_EVERY, Site, open_databases, open_salesforce, patiently
from daemon.errors import CallstatsdError, UnreachableError, first
from daemon.lease import Lease
from daemon.lifecycle import Notifier
from daemon.monitor import Condition, listening
from daemon.page import watched
from daemon.poller import pause, unless
from daemon.sender import DRAIN_EXTRA
from daemon.settings import Settings
from daemon.settler import Settler

_log = structlog.get_logger()

LAST_CHANCE = 1.0
"""Seconds to write what is left when the daemon must end at once."""


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set; then finish what is in flight.

    Databases that are away are waited for. Raises `ConfigurationError` for a ledger or source
    that is not ours to use, `UnwritableError` when outcomes cannot be written for too long.
    """
    notifier, condition = Notifier(), Condition()
    async with (
        open_databases(settings) as (source, ledger),
        open_salesforce(settings) as salesforce,
        Lease(ledger.database, wanting=True) as lease,
        listening(watched(settings, source, ledger, condition), settings.http_listen),
    ):
        await patiently(ledger.check_version, stop)
        settler = Settler(ledger, settings.retry_for)
        try:
            async with asyncio.TaskGroup() as group:
                settling = group.create_task(settler.run())
                site = Site(
                    settings, source, ledger, salesforce, settler, lease, notifier, condition
                )
                while not stop.is_set():
                    if await _acquire(lease, notifier, stop):
                        await site.be_active(stop, poll=True)
                notifier.stopping()
                await settler.finish(DRAIN_EXTRA)
                settling.cancel()
        except* CallstatsdError as group_error:
            raise first(group_error) from group_error
        finally:
            if settler.waiting:
                await settler.finish(LAST_CHANCE)
        _log.info(logs.DAEMON_STOPPED)


async def _acquire(lease: Lease, notifier: Notifier, stop: asyncio.Event) -> bool:
    """Wait until this instance has the ledger's lock; False when told to stop before."""
    told = False
    while not stop.is_set():
        try:
            if await unless(stop, lease.try_acquire()):
                return True
            if not told and not stop.is_set():
                _log.info(logs.DAEMON_STANDBY)
                notifier.ready("standing by")
                told = True
        except UnreachableError as error:
            _log.debug(logs.DAEMON_WAITING, error=str(error))
        await pause(stop, STANDBY_EVERY)
    return False
