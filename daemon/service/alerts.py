"""Alerts: an event for a group of the ACD when lines end for good without being in Salesforce.

Number, counts, tries and the time of the next try are in the ledger, as those of lines are, so that
no restart forgets them; hence no tenacity here.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from daemon import logs, metrics
from daemon.acd.answers import ALERT_PREFIX, AcdError, AcdEvent, AcdUnavailableError
from daemon.acd.events import TIMEOUT
from daemon.delivery.backoff import Backoff
from daemon.errors import UnusableError
from daemon.ledger.alerts import Alert, AlertStore
from daemon.salesforce.transport import Permit, WithdrawnError, permit

_log = structlog.get_logger()

TICKET = 6
"""The type of the event; its UserData is the number of a foreign ticket."""
LOOK_EVERY = 2.0
"""Seconds between two looks into the ledger."""
GATHER = 5.0
"""Seconds from the first line to its alert, which counts what came meanwhile."""
UNHEARD = TIMEOUT
"""Seconds that the ACD may still work on a request to which no answer came."""
LAST_CHANCE = 2.0
"""Seconds that an alert under way gets at shutdown."""
MOST_TRIES = 10
_NOT_BY_TRYING = {400, 401, 404, *range(300, 400)}
"""Statuses that a person must end: the alert is tried again only after the interval."""


class Events(Protocol):
    """What alerts need of the ACD."""

    async def find(self, user_data: str, /) -> AcdEvent | None:
        """Return an event with exactly this UserData."""

    async def create(self, body: dict[str, Any], /) -> AcdEvent:
        """Create one."""


@dataclass(frozen=True, slots=True)
class AlertOptions:
    """The group to alert, the least seconds between two alerts, and a link for the event."""

    group_id: int
    interval: float
    link: str = ""


class Alerts:
    """Raises an alert at most once for each number, across kills, cut answers and takeovers."""

    def __init__(
        self, ledger: AlertStore, acd: Events, options: AlertOptions, backoff: Backoff
    ) -> None:
        self._ledger = ledger
        self._acd = acd
        self._options = options
        self._backoff = backoff
        self._longest_wait = max(options.interval, backoff.maximum, UNHEARD)

    async def run(self, may_send: Permit) -> None:
        """Look for lines until cancelled; nothing that the ACD or the ledger does ends this."""
        permit.set(may_send)
        while True:
            await may_send.until_held()
            turn = asyncio.create_task(self._safe_turn())
            try:
                await asyncio.shield(turn)
            except asyncio.CancelledError:
                await asyncio.wait({turn}, timeout=LAST_CHANCE)
                turn.cancel()
                raise
            await asyncio.sleep(LOOK_EVERY)

    async def _safe_turn(self) -> None:
        try:
            await self.turn()
        except UnusableError as error:
            _log.debug(logs.DAEMON_WAITING, error=str(error))
        except WithdrawnError:
            _log.debug(logs.DAEMON_WAITING, error="another instance may raise the alert")
        except Exception as defect:  # noqa: BLE001 - an alert never ends the sender
            _log.error(logs.REQUEST_DEFECT, exception=logs.without_messages(defect))

    async def turn(self, gather: float = GATHER) -> None:
        """Raise the alert that is due, if any; raises `UnusableError` without the ledger."""
        code = await self._ledger.begin_alerts(self._longest_wait)
        earlier = await self._ledger.open_alert(UNHEARD)
        if earlier is not None:
            if earlier.due:
                await self._again(code, earlier.alert)
        elif await self._ledger.alert_due(self._options.interval, gather):
            alert = await self._ledger.number_alert()
            if alert is not None:
                await self._create(code, alert)

    async def _again(self, code: str, alert: Alert) -> None:
        """Look for the event of an earlier request, and repeat the request if there is none."""
        try:
            found = await self._acd.find(user_data(code, alert))
        except AcdError as error:
            await self._failed(alert, error)
            return
        if found is not None:
            await self._raised(alert, found.id)
            return
        counted = await self._ledger.number_alert(alert.number)
        if counted is None:
            await self._ledger.withdraw_alert(alert.number)
        else:
            await self._create(code, counted)

    async def _create(self, code: str, alert: Alert) -> None:
        try:
            event = await self._acd.create(self._body(code, alert))
        except AcdError as error:
            if error.status == 409:
                await self._raised(alert, None)
            else:
                await self._failed(alert, error)
        else:
            await self._raised(alert, event.id, updated=event.updated)

    async def _raised(
        self, alert: Alert, acd_events_id: int | None, *, updated: bool = False
    ) -> None:
        await self._ledger.alert_raised(alert.number, acd_events_id)
        metrics.ALERTS.labels("raised").inc()
        _log.info(
            logs.ALERT_RAISED,
            number=alert.number,
            acd_events_id=acd_events_id,
            lines=alert.lines,
            rejected=alert.rejected,
            expired=alert.expired,
            invalid=alert.invalid,
            updated=updated,
        )

    async def _failed(self, alert: Alert, error: AcdError) -> None:
        status = error.status
        words = reason(error)
        if status in _NOT_BY_TRYING:
            await self._ledger.alert_failed(alert.number, words, self._options.interval, 0)
            metrics.ALERTS.labels("failed").inc()
            _log.warning(logs.ALERT_FAILED, number=alert.number, status=status, error=words)
        elif (tries := alert.tries + 1) < MOST_TRIES:
            wait = self._backoff.delay(tries)
            if isinstance(error, AcdUnavailableError) and error.unheard:
                wait = max(wait, UNHEARD)
            await self._ledger.alert_failed(alert.number, words, wait, tries)
        else:
            await self._ledger.give_up_alert(alert.number, words)
            metrics.ALERTS.labels("given_up").inc()
            _log.error(logs.ALERT_GIVEN_UP, number=alert.number, status=status, error=words)

    def _body(self, code: str, alert: Alert) -> dict[str, Any]:
        body: dict[str, Any] = {
            "AcdEventTypesID": TICKET,
            "AcdGroupsID": self._options.group_id,
            "Sender": "callstatsd",
            "Subject": subject(alert),
        }
        if self._options.link:
            body["CrmURL"] = self._options.link
        return body | {"UserData": user_data(code, alert)}


def user_data(code: str, alert: Alert) -> str:
    """Return what tells an alert's event from all others, also from those of other ledgers."""
    return f"{ALERT_PREFIX}{code}-{alert.number}"


def subject(alert: Alert) -> str:
    """Return what the agents read."""
    counts = {"rejected": alert.rejected, "expired": alert.expired, "invalid": alert.invalid}
    said = ", ".join(f"{lines} {state}" for state, lines in counts.items() if lines)
    subject_of = "line is" if alert.lines == 1 else "lines are"
    return f"callstatsd: {alert.lines} {subject_of} not in Salesforce ({said})"


def reason(error: AcdError) -> str:
    """Return why an alert failed, without any word of the ACD."""
    if error.status is None:
        return "no response from the ACD"
    if error.status == 401:
        return "the ACD refuses the token or the ClientsID"
    return f"the ACD answered {error.status}"
