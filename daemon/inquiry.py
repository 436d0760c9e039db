"""Gathers what both databases know of a call, for `show`."""

from daemon.active import open_databases
from daemon.desk import Desk
from daemon.errors import ConfigurationError, UnreachableError
from daemon.lines import LineKey
from daemon.record import lane, salesforce_id
from daemon.settings import Settings
from daemon.source import Source
from daemon.story import Evidence

LATEST = 20
"""Calls of one Salesforce record to show."""


async def inquire(settings: Settings, call_id: int | None, record: str | None) -> list[Evidence]:
    """Return what is known of a call, or of the latest calls of a Salesforce record.

    The source may be away or lack a column; raises `UnreachableError` when the ledger is.
    """
    async with open_databases(settings) as (source, ledger):
        await ledger.check_version()
        desk = Desk(ledger.database)
        if call_id is not None:
            return [await _evidence(source, desk, call_id)]
        known = salesforce_id(record) or record or ""
        calls = await desk.calls_of_lane(lane(LineKey(0, 0, 0, 0), known), LATEST)
        return [await _evidence(source, desk, call) for call in calls]


async def _evidence(source: Source, desk: Desk, call_id: int) -> Evidence:
    lines = await desk.call(call_id)
    standing = await desk.standing()
    try:
        clock = await source.clock()
        facts = await source.about(call_id)
        keys = await source.keys([call_id])
    except (UnreachableError, ConfigurationError):
        return Evidence(call_id, lines, standing, None, None, ())
    return Evidence(call_id, lines, standing, clock, facts, keys)
