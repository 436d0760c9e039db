"""What tests of polls and of sweeps share."""

from datetime import timedelta
from typing import Any

from daemon.ingest.feed import RowRef
from daemon.ingest.intake import Intake
from daemon.ingest.poller import Poller
from daemon.ingest.sweeper import Sweeper
from daemon.lines import LineKey
from tests.support.rows import START
from tests.support.site import Site

MILLISECOND = timedelta(milliseconds=1)


async def start(poller: Poller, sweeper: Sweeper) -> None:
    """What a daemon does first: both sweeps, and a poll."""
    await sweeper.sweep(wide=True)
    await poller.poll()


async def versions(site: Site) -> list[Any]:
    """Which transaction wrote each line last."""
    return list(
        await site.ledger_db.fetch("SELECT ctid, xmin, call_id FROM callstatsd.line ORDER BY ctid")
    )


def of(events: list[Any], name: str) -> list[dict[str, Any]]:
    return [dict(event) for event in events if event["event"] == name]


async def take(intake: Intake, *call_ids: int, **how: Any) -> set[LineKey]:
    return await intake.take([RowRef(number, number, START) for number in call_ids], **how)
