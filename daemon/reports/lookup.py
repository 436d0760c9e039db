"""Collects what both databases have about a call, for `show` and the page."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

from daemon.errors import ConfigurationError, UnusableError
from daemon.ingest.readiness import CallFacts, Clock, ReadinessRules
from daemon.ingest.record import lane, salesforce_id
from daemon.ingest.source import Source
from daemon.ledger.operator import OperatorStore
from daemon.lines import LineKey
from daemon.reports.explain import CallHistory
from daemon.settings.model import Settings
from daemon.tasks import run_within

LATEST = 20
"""Calls of one Salesforce record that are shown."""

SourceAnswer = tuple[Clock, dict[int, CallFacts | None], dict[int, list[LineKey]]]
"""The source's clock, and its rows and line keys of some calls."""


async def look_up(
    source: Source,
    operator_store: OperatorStore,
    call_id: int | None,
    record: str | None,
    *,
    within: float | None = None,
    records: int | None = None,
) -> list[CallHistory]:
    """Return the history of a call, or of the latest calls of a Salesforce record.

    The first `records` lines of each call have their records, or all lines. Without the source
    (unreachable, wrong schema, or no answer within `within` seconds) only the ledger's part is
    returned. Raises `UnreachableError` if the ledger cannot be reached.
    """
    if call_id is not None:
        calls = [call_id]
    else:
        known = salesforce_id(record) or record or ""
        calls = await operator_store.calls_of_lane(lane(LineKey(0, 0, 0, 0), known), LATEST)
    lines = {call: await operator_store.call(call, records) for call in calls}
    status = await operator_store.status()
    answer = await _ask(source, calls, within)
    if answer is None:
        return [CallHistory(call, lines[call], status, None, None, ()) for call in calls]
    clock, facts, keys = answer
    return [
        CallHistory(call, lines[call], status, clock, facts[call], keys[call]) for call in calls
    ]


def rules_of(settings: Settings) -> ReadinessRules:
    """Return the settings that decide when a call is taken."""
    return ReadinessRules(
        timedelta(seconds=settings.settle_delay),
        timedelta(seconds=settings.stale_call_after),
        settings.source_timezone,
        settings.start_from,
        settings.clients_id,
    )


async def _ask(source: Source, calls: Sequence[int], within: float | None) -> SourceAnswer | None:
    """Query the source; None if it cannot be used or takes too long."""
    try:
        return await run_within(within, _query(source, calls))
    except (UnusableError, ConfigurationError):
        return None


async def _query(source: Source, calls: Sequence[int]) -> SourceAnswer:
    clock = await source.clock()
    facts = {call: await source.about(call) for call in calls}
    keys: dict[int, list[LineKey]] = defaultdict(list)
    for key in await source.keys(calls):
        keys[key.call_id].append(key)
    return clock, facts, keys
