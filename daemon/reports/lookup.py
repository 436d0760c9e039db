"""Collects what both databases have about a call or a callback, for `show` and the page."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from daemon.errors import ConfigurationError, UnusableError
from daemon.ingest.callbacks import END_WITHIN, CallbackSource
from daemon.ingest.readiness import CallFacts, Clock, EventFacts, ReadinessRules
from daemon.ingest.record import lane, salesforce_id
from daemon.ingest.source import Source
from daemon.ledger.gaps import GapStore, NotedGap
from daemon.ledger.operator import OperatorStore
from daemon.ledger.overview import LineDetail
from daemon.lines import FeedName, LineKey, Subject
from daemon.reports.callback_history import CallbackHistory
from daemon.reports.explain import CallHistory, History
from daemon.settings.model import Settings
from daemon.tasks import run_within

GAPS = 3
"""Gaps that are told of with a call."""
LATEST = 20
"""Calls and callbacks of one Salesforce record that are shown."""

CallAnswer = tuple[Clock, dict[int, CallFacts | None], dict[int, list[LineKey]]]
"""The source's clock, and its rows and line keys of some calls."""
EventAnswer = tuple[Clock, dict[int, EventFacts | None]]
"""The source's clock, and some of its events."""
Lines = dict[Subject, list[LineDetail]]


async def look_up(
    settings: Settings,
    source: Source,
    operator_store: OperatorStore,
    wanted: Subject | str,
    *,
    within: float | None = None,
    records: int | None = None,
) -> list[History]:
    """Return the history of a call or event, or of the latest of a Salesforce record.

    The first `records` lines of each have their records, or all lines. Without the source
    (unreachable, wrong schema, or no answer within `within` seconds) only the ledger's part is
    returned. Raises `UnreachableError` if the ledger cannot be reached.
    """
    if isinstance(wanted, Subject):
        subjects = [wanted]
    else:
        subjects = await operator_store.subjects_of_lane(record_lane(wanted), LATEST)
    lines = {
        subject: await operator_store.of(subject.feed).call(subject.row_id, records)
        for subject in subjects
    }
    histories = await _calls(settings, source, operator_store, lines, within)
    histories |= await _events(settings, source, operator_store, lines, within)
    return [histories[subject] for subject in subjects]


def record_lane(record_id: str) -> str:
    """Return the lane of a Salesforce record, whose id may have been typed with blanks."""
    return lane(LineKey(0, 0, 0, 0), salesforce_id(record_id) or record_id)


def rules_of(settings: Settings) -> ReadinessRules:
    """Return the settings that decide when a call is taken."""
    return ReadinessRules(
        timedelta(seconds=settings.settle_delay),
        timedelta(seconds=settings.stale_call_after),
        settings.source_timezone,
        settings.start_from,
        settings.clients_id,
    )


def callback_rules_of(settings: Settings) -> ReadinessRules:
    """Return the settings that decide when a callback request is taken.

    Its frequent sweep reaches as far as the other: a request is taken within a minute and a half
    after it could be, however late that is.
    """
    return replace(
        rules_of(settings),
        settle_delay=timedelta(seconds=settings.callback_delay),
        stale_call_after=END_WITHIN,
        near=timedelta(seconds=settings.lookback),
    )


def callback_source(settings: Settings, source: Source) -> CallbackSource:
    """Return what reads callback requests from the source's database."""
    return CallbackSource(source.database, settings.source_schemas, settings.clients_id)


async def _calls(
    settings: Settings,
    source: Source,
    operator_store: OperatorStore,
    lines: Lines,
    within: float | None,
) -> dict[Subject, History]:
    calls = [subject for subject in lines if subject.feed is FeedName.STATISTICS]
    if not calls:
        return {}
    status = await operator_store.of(FeedName.STATISTICS).status()
    ids = [call.row_id for call in calls]
    answer: CallAnswer | None = None
    with suppress(UnusableError, ConfigurationError):
        answer = await run_within(within, _query_calls(source, ids))
    clock, facts, keys = answer or (None, {}, {})
    receives = bool(settings.telegra_token.get_secret_value())
    return {
        call: CallHistory(
            call.row_id,
            lines[call],
            status,
            clock,
            facts.get(call.row_id),
            keys.get(call.row_id, ()),
            await _gaps(operator_store, clock, facts.get(call.row_id)) if receives else (),
        )
        for call in calls
    }


async def _gaps(
    operator_store: OperatorStore, clock: Clock | None, facts: CallFacts | None
) -> Sequence[NotedGap]:
    """Return when notifications were refused while a call ran."""
    if clock is None or facts is None or facts.started is None:
        return ()
    gaps = GapStore(operator_store.database)
    return await gaps.gaps(facts.started, facts.ended or clock.now, GAPS)


async def _events(
    settings: Settings,
    source: Source,
    operator_store: OperatorStore,
    lines: Lines,
    within: float | None,
) -> dict[Subject, History]:
    events = [subject for subject in lines if subject.feed is FeedName.CALLBACKS]
    if not events:
        return {}
    status = await operator_store.of(FeedName.CALLBACKS).status()
    rules = callback_rules_of(settings) if settings.callback_url else None
    answer: EventAnswer | None = None
    if rules is not None:
        requests = callback_source(settings, source)
        ids = [event.row_id for event in events]
        with suppress(UnusableError, ConfigurationError):
            answer = await run_within(within, _query_events(requests, ids))
    clock, facts = answer or (None, {})
    return {
        event: CallbackHistory(
            event.row_id, lines[event], status, rules, clock, facts.get(event.row_id)
        )
        for event in events
    }


async def _query_calls(source: Source, calls: Sequence[int]) -> CallAnswer:
    clock = await source.clock()
    facts = {call: await source.about(call) for call in calls}
    keys: dict[int, list[LineKey]] = defaultdict(list)
    for key in await source.keys(calls):
        keys[key.call_id].append(key)
    return clock, facts, keys


async def _query_events(requests: CallbackSource, events: Sequence[int]) -> EventAnswer:
    clock = await requests.clock()
    return clock, {event: await requests.about(event) for event in events}
