"""What operators do to lines: send them again, or withdraw them; counted first, told afterwards."""

from collections import Counter

import structlog

from daemon import logs
from daemon.desk import Choice, Desk
from daemon.intake import Intake
from daemon.lines import State

_log = structlog.get_logger()


async def requeue(desk: Desk, intake: Intake, choice: Choice) -> dict[str, int]:
    """Put settled lines back to pending; returns how many lines are in which state by it.

    A line goes with the record as it was sent. Where that was dropped, or never could be sent, it
    is made anew from the source; such a line may end as `skipped` or `invalid` again.
    """
    became: Counter[str] = Counter()
    async for lines in desk.choose(choice):
        as_sent = [line for line in lines if line.has_record and not line.without_id]
        requeued = await desk.requeue(as_sent)
        anew = [line.key for line in lines if line.key not in requeued]
        rebuilt = await intake.rebuilt(anew)
        renewed = await desk.renew(rebuilt, choice.states)
        gone = ["gone"] * (len(anew) - len(rebuilt))
        became.update([State.PENDING] * len(requeued) + [*renewed.values(), *gone])
    _tell("requeue", choice, became)
    return became


async def discard(desk: Desk, choice: Choice) -> int:
    """Withdraw lines; returns how many. An answer that is under way changes them no more."""
    discarded = 0
    async for lines in desk.choose(choice):
        discarded += len(await desk.discard(lines))
    _tell("discard", choice, {State.SKIPPED: discarded})
    return discarded


def _tell(act: str, choice: Choice, became: dict[str, int]) -> None:
    _log.info(
        logs.OPERATOR_ACTED,
        act=act,
        states=[state.value for state in choice.states],
        since=choice.since,
        until=choice.until,
        call_id=choice.call_id,
        backfill=choice.backfill,
        lines={str(state): count for state, count in became.items()},
    )


async def hold(desk: Desk, *, held: bool, reason: str | None) -> None:
    """Stop sending, or let it go on."""
    await (desk.hold(reason) if held else desk.release())
    _log.info(logs.OPERATOR_ACTED, act="pause" if held else "resume", reason=reason)
