"""Alerts in the ledger: a number and its counts are there before a request is made of them."""

from typing import Any, NamedTuple

from daemon.database import statements
from daemon.ledger.overview import AlertStatus
from daemon.ledger.tables import LedgerTables

_SQL = statements.load("ledger/alerts.sql")


class Alert(NamedTuple):
    """An alert that is not raised yet, and the lines it counts; `tries` have failed so far."""

    number: int
    rejected: int
    expired: int
    invalid: int
    tries: int

    @property
    def lines(self) -> int:
        """How many lines are not in Salesforce."""
        return self.rejected + self.expired + self.invalid


class OpenAlert(NamedTuple):
    """An alert of an earlier request, which the ACD may have; `due` if it may be tried now."""

    alert: Alert
    due: bool


class AlertStore(LedgerTables):
    """Numbers alerts, and keeps what came of them; all times are the ledger's, in seconds."""

    async def begin_alerts(self, longest_wait: float) -> str:
        """Count lines from now on, unless they are counted already; returns the ledger's code.

        Times that a clock left behind when it was set back are corrected: nothing waits longer.
        """
        return str((await self._only_row(_SQL["begin_alerts"], longest_wait))["code"])

    async def open_alert(self, unheard: float) -> OpenAlert | None:
        """Return the alert that is neither raised nor given up.

        One of whose request nothing was heard is due after `unheard` seconds.
        """
        async with self.database.connection() as connection:
            row = await connection.fetchrow(_SQL["open_alert"], unheard)
        return None if row is None else OpenAlert(Alert(*row[:5]), row["due"])

    async def alert_due(self, interval: float, gather: float) -> bool:
        """Whether a line waits for an alert since `gather` seconds, and the interval is over."""
        async with self.database.connection() as connection:
            return bool(await connection.fetchval(_SQL["alert_due"], interval, gather))

    async def number_alert(self, number: int | None = None) -> Alert | None:
        """Create an alert, or count the lines of one anew; None if no line is left."""

        async def count(connection: Any) -> Alert | None:
            row = await connection.fetchrow(_SQL["number_alert"], number)
            return None if row is None else Alert(*row)

        return await self.database.change(count, "number_alert")

    async def withdraw_alert(self, number: int) -> None:
        """Forget an alert that is not in the ACD and has no lines any more."""
        await self._write("withdraw_alert", number)

    async def alert_raised(self, number: int, acd_events_id: int | None) -> None:
        """Note that the ACD has it."""
        await self._write("alert_raised", number, acd_events_id)

    async def alert_failed(self, number: int, error: str, wait: float, tries: int) -> None:
        """Note why it was not raised, and in how many seconds it is tried again."""
        await self._write("alert_failed", number, error, wait, tries)

    async def give_up_alert(self, number: int, error: str) -> None:
        """Leave its lines to the next one."""
        await self._write("give_up_alert", number, error)

    async def alert_status(self) -> AlertStatus:
        """Return the last alert, and what waits for the next; by indexes."""
        async with self.database.connection() as connection:
            return AlertStatus(**await connection.fetchrow(_SQL["alert_status"]))

    async def _write(self, statement: str, *arguments: Any) -> None:
        async def write(connection: Any) -> None:
            await connection.execute(_SQL[statement], *arguments)

        await self.database.change(write, statement)
