"""Operations on the ledger: requeue, discard, pause and resume; each is recorded."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from daemon import logs
from daemon.ingest.feed import Feed
from daemon.ledger.acts import Act, ActKind
from daemon.ledger.operator import OperatorStore
from daemon.ledger.overview import LedgerStatus, LineFilter
from daemon.lines import FeedName, State
from daemon.reports.formats import plural

_log = structlog.get_logger()

ASK_ABOVE = 100
"""More lines than this are changed only after confirmation."""
DISCARDABLE = (State.PENDING, State.REJECTED, State.EXPIRED, State.INVALID)
"""States that `discard` accepts; delivered and refused lines are the record of what was sent."""
RESUME_TIMEOUT = 10.0
"""Seconds for which `resume` waits for the result of the try that it asks for."""
RESUME_INTERVAL = 0.1
"""Seconds between two reads of the status meanwhile."""


def refusal(kind: ActKind, choice: LineFilter) -> str | None:
    """Return why these lines cannot be requeued or discarded; None if they can."""
    if kind is ActKind.DISCARD:
        others = [state for state in choice.states if state not in DISCARDABLE]
        if others:
            return (
                f"{' and '.join(others)} lines stay as they are: their outcome is history; "
                f"choose {', '.join(DISCARDABLE[:-1])} or {DISCARDABLE[-1]}"
            )
        return None
    if State.PENDING in choice.states:
        return "pending lines are sent anyway"
    ended = choice.since is not None and choice.until is not None
    settled = choice.settled_since is not None and choice.settled_until is not None
    bounded = choice.call_id is not None or ended or settled
    if State.DELIVERED in choice.states and not bounded:
        return (
            "delivered lines need --call-id, --callback, or a window with both ends: --from and "
            "--to, or --settled-from and --settled-to"
        )
    return None


def filtered_sentence(lines: int) -> str:
    """Return why lines that a filter has kept out are not requeued, and what to do instead."""
    were = "was" if lines == 1 else "were"
    return (
        f"{plural(lines, 'line')} {were} kept out by a filter and not requeued: change the filter, "
        "restart the daemon, then take what passes with `callstatsd backfill`"
    )


@dataclass(slots=True)
class Changed:
    """Progress of an operation, also of an interrupted one: lines by the state they have now.

    `complete` once all selected lines were processed; "gone" counts lines whose record was dropped
    and whose rows are no longer in the source.
    """

    lines: Counter[str] = field(default_factory=Counter)
    complete: bool = False

    @property
    def requeued(self) -> int:
        """Number of lines that will be sent again."""
        return self.lines[State.PENDING]


async def requeue(
    operator_store: OperatorStore,
    feeds: Mapping[FeedName, Feed],
    choice: LineFilter,
    who: str,
    changed: Changed,
    stop: asyncio.Event,
) -> None:
    """Set settled lines back to pending, batch by batch, until all are done or `stop` is set.

    A line keeps the record that was sent. If that was dropped, or could not be sent, it is rebuilt
    from the source by its own feed; such a line may end as `skipped` or `invalid` again.
    """
    act_id = await operator_store.begin(choice.act(ActKind.REQUEUE, who))
    async for lines in operator_store.choose(choice):
        as_sent = [line for line in lines if line.has_record and not line.without_id]
        requeued = await operator_store.requeue(as_sent, act_id)
        changed.lines[State.PENDING] += len(requeued)
        anew = [line.key for line in lines if line.key not in requeued]
        rebuilt = [
            line
            for name, feed in feeds.items()
            if (keys := [key for key in anew if key.feed is name])
            for line in await feed.lines_by_key(keys)
        ]
        renewed = await operator_store.renew(rebuilt, act_id, choice.states)
        changed.lines.update(renewed.values())
        changed.lines["gone"] += len(anew) - len(rebuilt)
        if stop.is_set():
            break
    else:
        changed.complete = True
    await _finish(operator_store, act_id, "requeue", choice, changed)


async def discard(
    operator_store: OperatorStore,
    choice: LineFilter,
    who: str,
    changed: Changed,
    stop: asyncio.Event,
) -> None:
    """Withdraw lines, batch by batch; responses that arrive later do not change them."""
    act_id = await operator_store.begin(choice.act(ActKind.DISCARD, who))
    async for lines in operator_store.choose(choice):
        changed.lines[State.SKIPPED] += len(await operator_store.discard(lines, act_id))
        if stop.is_set():
            break
    else:
        changed.complete = True
    await _finish(operator_store, act_id, "discard", choice, changed)


async def _finish(
    operator_store: OperatorStore, act_id: int, act: str, choice: LineFilter, changed: Changed
) -> None:
    changed.lines = +changed.lines
    if changed.complete:
        await operator_store.end(act_id)
    _log.info(
        logs.OPERATOR_ACTED,
        act=act,
        states=[state.value for state in choice.states],
        since=choice.since,
        until=choice.until,
        settled_since=choice.settled_since,
        settled_until=choice.settled_until,
        feed=choice.feed,
        call_id=choice.call_id,
        backfill=choice.backfill,
        lines={str(state): count for state, count in changed.lines.items()},
    )


async def pause(operator_store: OperatorStore, reason: str | None, who: str) -> None:
    """Stop sending until `resume`."""
    await operator_store.pause(Act(ActKind.PAUSE, who, reason=reason))
    _log.info(logs.OPERATOR_ACTED, act="pause")


@dataclass(frozen=True, slots=True)
class Sends:
    """The sender is sending."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """The sender is still paused; `tried` if the requested try has failed.

    `idle` if no line is pending, so that there is nothing to try with.
    """

    reason: str
    retry_at: datetime | None
    tried: bool
    idle: bool = False


@dataclass(frozen=True, slots=True)
class NotHeard:
    """The active instance has not reported in time."""

    host: str | None
    pid: int | None


@dataclass(frozen=True, slots=True)
class StandsBy:
    """No instance is active, but one is about to take over."""


@dataclass(frozen=True, slots=True)
class NobodyRuns:
    """No instance is active or standing by."""


AfterResume = Sends | Pauses | NotHeard | StandsBy | NobodyRuns


def after_resume(
    act_id: int, status: LedgerStatus, *, daemon_runs: bool, pending: bool, late: bool
) -> AfterResume | None:
    """Return the result of the resume recorded as `act_id`; None while it is unknown.

    `pending` if there was a line to try with; `late` if there is no more time to wait.
    """
    if not status.active:
        if not daemon_runs:
            return NobodyRuns()
        return StandsBy() if late else None
    if status.operator_pause is not None:
        return Pauses("operator", None, tried=False)
    answered = status.probe_answered is not None and status.probe_answered >= act_id
    if answered and status.state == "sending":
        return Sends()
    # Until the instance has read the resume, it may still report the operator's pause.
    automatic = status.reason if status.reason != "operator" else None
    if status.state == "paused" and automatic and (answered or late or not pending):
        return Pauses(automatic, status.retry_at, tried=answered, idle=not pending)
    return NotHeard(status.host, status.pid) if late else None


async def resume(operator_store: OperatorStore, who: str) -> AfterResume:
    """Continue sending, ask an automatic pause to try at once, and return the result."""
    act_id, pending = await operator_store.resume(Act(ActKind.RESUME, who))
    _log.info(logs.OPERATOR_ACTED, act="resume")
    until = time.monotonic() + RESUME_TIMEOUT
    while True:
        late = time.monotonic() >= until
        result = after_resume(
            act_id,
            await operator_store.status(),
            daemon_runs=await operator_store.daemon_runs(),
            pending=pending,
            late=late,
        )
        if result is not None:
            return result
        await asyncio.sleep(RESUME_INTERVAL)
