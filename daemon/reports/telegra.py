"""Collects what is known of the receiver of notifications, for `status` and the page."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from daemon.database.pool import Database
from daemon.errors import UnusableError
from daemon.ledger.gaps import GapStore, NotedGap
from daemon.settings.model import Settings
from daemon.tasks import run_within
from daemon.telegra.reading import Overview, TelegraReader

GAPS = 3
"""Gaps that are told of."""
GAPS_SINCE = timedelta(days=7)
"""How long status and page tell of a gap."""
SOURCE_ANSWERS = 2.0
"""Seconds to wait for the source, which the rest does not need."""


@dataclass(frozen=True, slots=True)
class TelegraReport:
    """How the receiver is doing, None while the source is away; the newest gaps first."""

    overview: Overview | None
    gaps: list[NotedGap]


async def telegra_report(
    settings: Settings, source: Database, ledger: Database
) -> TelegraReport | None:
    """Return what is known of the receiver; None where it is off.

    Raises `UnreachableError` if the ledger cannot be reached.
    """
    if not settings.telegra_token.get_secret_value():
        return None
    now = datetime.now(UTC)
    gaps = await GapStore(ledger).gaps(now - GAPS_SINCE, now, GAPS)
    stale, lookback = (
        timedelta(seconds=each) for each in (settings.stale_call_after, settings.lookback)
    )
    overview = None
    with suppress(UnusableError):
        reading = TelegraReader(source).overview(stale, lookback)
        overview = await run_within(SOURCE_ANSWERS, reading)
    return TelegraReport(overview, gaps)
