"""Gathers what both databases know of a call, for `show` and for the page."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

from daemon.errors import ConfigurationError, UnusableError
from daemon.ingest.record import lane, salesforce_id
from daemon.ingest.source import CallFacts, Clock, Source
from daemon.ledger.operator import OperatorStore
from daemon.lines import LineKey
from daemon.reports.explain import CallHistory, ReadinessRules
from daemon.settings.model import Settings
from daemon.tasks import run_within

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
    said = await _ask(source, calls, within)
    if said is None:
        return [CallHistory(call, lines[call], status, None, None, ()) for call in calls]
    clock, facts, keys = said
    return [
        CallHistory(call, lines[call], status, clock, facts[call], keys[call]) for call in calls
    ]


def rules_of(settings: Settings) -> ReadinessRules:
    """Return what a call's story depends on."""
    return ReadinessRules(
        settings.clients_id,
        timedelta(seconds=settings.settle_delay),
        timedelta(seconds=settings.stale_call_after),
        settings.source_timezone,
    )


async def _ask(source: Source, calls: Sequence[int], within: float | None) -> SourceAnswer | None:
    """Ask the source; None if it is away or takes too long."""
    try:
        return await run_within(within, _of_the_source(source, calls))
    except (UnusableError, ConfigurationError):
        return None


async def _of_the_source(source: Source, calls: Sequence[int]) -> SourceAnswer:
    clock = await source.clock()
    facts = {call: await source.about(call) for call in calls}
    keys: dict[int, list[LineKey]] = defaultdict(list)
    for key in await source.keys(calls):
        keys[key.call_id].append(key)
    return clock, facts, keys
