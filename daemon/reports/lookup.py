"""Gathers what both databases know of a call, for `show` and for the page."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

from daemon.errors import ConfigurationError, UnreachableError
from daemon.ingest.readiness import CallFacts, Clock, ReadinessRules
from daemon.ingest.record import lane, salesforce_id
from daemon.ingest.source import Source
from daemon.ledger.operator import OperatorStore
from daemon.lines import LineKey
from daemon.reports.explain import CallHistory
from daemon.settings.model import Settings

LATEST = 20
"""Calls of one Salesforce record to show."""

SourceAnswer = tuple[Clock, dict[int, CallFacts | None], dict[int, list[LineKey]]]
"""What the source says of some calls."""


async def look_up(
    source: Source,
    operator_store: OperatorStore,
    call_id: int | None,
    record: str | None,
    *,
    within: float | None = None,
    records: int | None = None,
) -> list[CallHistory]:
    """Return what is known of a call, or of the latest calls of a Salesforce record.

    Of each call the first `records` lines come with their records, or all.

    The source may be away or lack a column, and is given up after `within` seconds; raises
    `UnreachableError` when the ledger is away.
    """
    if call_id is not None:
        calls = [call_id]
    else:
        known = salesforce_id(record) or record or ""
        calls = await operator_store.calls_of_lane(lane(LineKey(0, 0, 0, 0), known), LATEST)
    lines = {call: await operator_store.call(call, records) for call in calls}
    status = await operator_store.status()
    said = await _patiently(source, calls, within)
    if said is None:
        return [CallHistory(call, lines[call], status, None, None, ()) for call in calls]
    clock, facts, keys = said
    return [
        CallHistory(call, lines[call], status, clock, facts[call], keys[call]) for call in calls
    ]


def rules_of(settings: Settings) -> ReadinessRules:
    """Return when calls are ready, and whose."""
    return ReadinessRules(
        timedelta(seconds=settings.settle_delay),
        timedelta(seconds=settings.stale_call_after),
        settings.source_timezone,
        settings.start_from,
        settings.clients_id,
    )


async def _patiently(
    source: Source, calls: Sequence[int], within: float | None
) -> SourceAnswer | None:
    """Ask the source; None if it is away or takes too long."""
    asking = asyncio.create_task(_of_the_source(source, calls))
    try:
        # Not cancelled and waited for: a silent server holds up that too.
        done, _ = await asyncio.wait({asking}, timeout=within)
        return asking.result() if done else None
    except (UnreachableError, ConfigurationError):
        return None
    finally:
        asking.cancel()


async def _of_the_source(source: Source, calls: Sequence[int]) -> SourceAnswer:
    clock = await source.clock()
    facts = {call: await source.about(call) for call in calls}
    keys: dict[int, list[LineKey]] = defaultdict(list)
    for key in await source.keys(calls):
        keys[key.call_id].append(key)
    return clock, facts, keys
