"""Writes what the active instance does into the ledger, and reads what operators want of it."""

import asyncio
import os
import socket
import time
from collections.abc import Collection
from typing import Protocol

import structlog

from daemon import __version__, logs
from daemon.delivery.flow_control import SenderStatus
from daemon.errors import UnusableError
from daemon.ledger.binding import Binding
from daemon.ledger.instance import InstanceStatus, Tenure, Wishes
from daemon.ledger.store import Ledger
from daemon.lines import FeedName
from daemon.tasks import sleep_or_stop
from daemon.web.health import InstanceState

_log = structlog.get_logger()

HEARTBEAT_EVERY = 2.0
"""Seconds between two heartbeats of the active instance."""
PROBE_HEARTBEAT_EVERY = 0.2
"""The same, while an operator waits for the result of a probe."""


class ControlledSender(Protocol):
    """What a heartbeat needs of the sender."""

    def status(self) -> SenderStatus:
        """Return what it does now."""

    def control(self, *, operator_paused: bool, probe: bool) -> None:
        """Pause or resume as an operator wants; `probe` ends an automatic pause with a try."""


class Heartbeat:
    """Writes the instance's status every few seconds, for as long as one lease lasts.

    `leave` is set when the instance must drain and end because a migration waits for the ledger;
    then `upgrade` is true.
    """

    def __init__(
        self,
        ledger: Ledger,
        sender: ControlledSender,
        state: InstanceState,
        binding: Binding,
        tenure: Tenure,
        leave: asyncio.Event,
        feeds_on: Collection[FeedName] = (FeedName.STATISTICS,),
    ) -> None:
        self._ledger = ledger
        self._sender = sender
        self._state = state
        self._binding = binding
        self._tenure = tenure
        self._leave = leave
        self._feeds = feeds_on
        self._started = time.monotonic()
        self._wake = asyncio.Event()
        self._asked: int | None = None
        self._answered: int | None = None
        self.upgrade = False

    def wake(self) -> None:
        """Write and read now: an operator has just changed something."""
        self._wake.set()

    async def begin(self) -> None:
        """Read an operator's pause before anything is sent; end what a dead instance left.

        A pause that it could not end counts against no line, nor does the time since.
        """
        await self._ledger.succeed(self._tenure)
        wishes = await self._write()
        if wishes.pause is None:
            for feed in self._feeds:
                await self._ledger.pause_ended(feed)

    async def run(self) -> None:
        """Write until cancelled; raises `ConfigurationError` when the ledger is bound anew.

        Raises `LeaseLostError` when another instance holds it.
        """
        while True:
            answered = self._answered == self._asked
            await sleep_or_stop(self._wake, HEARTBEAT_EVERY if answered else PROBE_HEARTBEAT_EVERY)
            self._wake.clear()
            try:
                await self._write()
                await self._ledger.check_binding(self._binding)
            except UnusableError as error:
                _log.debug(logs.DAEMON_UNHEARD, error=str(error))

    async def end(self) -> None:
        """Write that this instance stopped in order; the next one reads what operators want."""
        await self._ledger.write_heartbeat(self._status(stopped=True), self._tenure)

    async def _write(self) -> Wishes:
        wishes = await self._ledger.write_heartbeat(self._status(stopped=False), self._tenure)
        probe = wishes.probe != self._asked
        self._asked = wishes.probe
        self._sender.control(operator_paused=wishes.pause is not None, probe=probe)
        paused = self._sender.status().paused
        self._state.paused = paused[0] if paused else None
        if wishes.upgrade and not self._leave.is_set():
            self.upgrade = True
            _log.warning(logs.DAEMON_STOPPING, error="callstatsd migrate is upgrading the ledger")
            self._leave.set()
        return wishes

    def _status(self, *, stopped: bool) -> InstanceStatus:
        paused, probing, others = self._sender.status()
        reason, retry_in = paused or (None, None)
        if not probing:
            self._answered = self._asked
        return InstanceStatus(
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            uptime=time.monotonic() - self._started,
            state="stopped" if stopped else "paused" if paused else "sending",
            reason=reason,
            retry_in=retry_in,
            stopped=stopped,
            probe_answered=self._answered,
            others=others,
        )
