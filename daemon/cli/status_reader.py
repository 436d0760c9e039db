"""Reads what `status` shows."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from daemon.database.pool import Database
from daemon.ledger.operator import OperatorStore
from daemon.ledger.overview import StatusReport
from daemon.reports.telegra import TelegraReport, telegra_report
from daemon.service.connections import check_ledger, open_databases
from daemon.settings.model import Settings


@dataclass(frozen=True, slots=True)
class Status:
    """What the ledger has, and what is known of the receiver of notifications if it is on."""

    report: StatusReport
    telegra: TelegraReport | None


@dataclass(frozen=True, slots=True)
class StatusReader:
    """Reads the status from both databases; raises `UnusableError`."""

    settings: Settings
    source: Database
    operator_store: OperatorStore

    async def read(self) -> Status:
        """Return it; counts all lines."""
        report = await self.operator_store.overview(
            callbacks=bool(self.settings.callback_url),
            alerts=self.settings.alert_group_id is not None,
        )
        ledger = self.operator_store.database
        return Status(report, await telegra_report(self.settings, self.source, ledger))


@asynccontextmanager
async def open_status(settings: Settings) -> AsyncIterator[StatusReader]:
    """Open both databases; raises `ConfigurationError` for a wrong ledger."""
    async with open_databases(settings) as (source, ledger):
        await check_ledger(settings, source, ledger)
        yield StatusReader(settings, source.database, OperatorStore(ledger.database))
