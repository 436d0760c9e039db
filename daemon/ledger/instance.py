"""The status that the active instance reports, and what operators request of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from daemon.database import statements
from daemon.errors import LeaseLostError
from daemon.ledger.binding import SCHEMA_VERSION
from daemon.ledger.locks import LAST_VERSION, UPGRADE_LOCK
from daemon.ledger.tables import LedgerTables
from daemon.lines import FeedName

_SQL = statements.load("ledger/instance.sql")


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """What the active instance reports every few seconds."""

    host: str
    pid: int
    version: str
    uptime: float
    state: str
    reason: str | None
    retry_in: float | None
    stopped: bool = False
    probe_answered: int | None = None
    others: Mapping[FeedName, tuple[str, float | None] | None] = field(default_factory=dict)
    """The pauses of other feeds than statistics: reason, and seconds until the next try."""


@dataclass(frozen=True, slots=True)
class Tenure:
    """One period with the ledger's lock: its id, the ledger's oid, and the id of the one before."""

    lease: str | None = None
    ledger_oid: int | None = None
    previous: str | None = None


@dataclass(frozen=True, slots=True)
class OperatorPause:
    """An operator's pause: since when, and why."""

    since: datetime
    reason: str | None


@dataclass(frozen=True, slots=True)
class Wishes:
    """What operators and migrations request of the active instance.

    An operator's pause; the latest act that asked to end an automatic pause with a try at once;
    whether a migration wants to bring the ledger to a newer version than this program knows.
    """

    pause: OperatorPause | None
    probe: int | None
    upgrade: bool


class InstanceStore(LedgerTables):
    """Writes the instance's row, and reads what operators request."""

    async def succeed(self, tenure: Tenure) -> None:
        """Take the instance's row over; notes if the instance before did not stop in order."""
        async with self.database.connection() as connection:
            await connection.execute(
                _SQL["succeed"], tenure.lease, tenure.ledger_oid, tenure.previous
            )

    async def write_heartbeat(self, status: InstanceStatus, tenure: Tenure) -> Wishes:
        """Write what this instance does; return what is requested of it.

        Raises `LeaseLostError`, and writes nothing, once another instance holds the ledger.
        """
        async with self.database.connection("write_heartbeat") as connection:
            written = await connection.fetchval(
                _SQL["write_heartbeat"],
                status.host,
                status.pid,
                status.version,
                status.uptime,
                status.state,
                status.reason,
                status.retry_in,
                status.stopped,
                tenure.lease,
                tenure.ledger_oid,
                status.probe_answered,
            )
            if written and status.others:
                pauses = [pause or (None, None) for pause in status.others.values()]
                reasons, waits = zip(*pauses, strict=True)
                await connection.execute(
                    _SQL["write_feed_pauses"], list(status.others), list(reasons), list(waits)
                )
        if not written:
            raise LeaseLostError("another instance has taken the ledger over")
        own, last = UPGRADE_LOCK + int(SCHEMA_VERSION), UPGRADE_LOCK + LAST_VERSION
        row = await self._only_row(_SQL["wishes"], own, last)
        since = row["held_since"]
        pause = None if since is None else OperatorPause(since, row["held_reason"])
        return Wishes(pause, row["probe_requested"], row["upgrade"])
