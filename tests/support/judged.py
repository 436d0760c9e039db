"""Outcomes that flow control judges, and what it does then."""

from daemon.delivery.backoff import Backoff
from daemon.delivery.flow_control import FlowControl
from daemon.delivery.gate import OrgGate, Pause
from daemon.delivery.outcome import Delivered, Failed, Outcome, PauseSender, Rejected, Unanswered
from daemon.lines import PauseReason

BACKOFF = Backoff(initial=1.0, maximum=60.0)
DELIVERED = Delivered(200, expected=True)
DOWN = PauseSender(PauseReason.UNAVAILABLE, 503, None, "down")
FAULTS: list[Outcome] = [Failed(500, "boom"), Failed(501, "bang"), Rejected(400, "bad")]


def make(concurrency: int = 8, *, proven: bool = True) -> FlowControl:
    return FlowControl(OrgGate(concurrency), concurrency, BACKOFF, endpoint_proven=proven)


def judge_all(flow: FlowControl, outcome: Outcome, lanes: range) -> list[PauseSender | None]:
    return [flow.assess(outcome, f"lane {number}") for number in lanes]


def paused(
    flow: FlowControl, pausing: PauseSender = DOWN, lane: str | None = "A", now: float = 0
) -> Pause:
    pause = flow.pause(pausing, lane, flow.epoch, now)
    assert pause is not None
    return pause


def window(flow: FlowControl, now: float = 0) -> int:
    """How many requests may be in flight at once."""
    return next(n for n in range(1000) if not flow.may_start(n, now))


def probe(flow: FlowControl, outcome: Outcome, lane: str, now: float = 0) -> Pause | None:
    """Let a probe come to that; returns the pause, as it is afterwards."""
    epoch = flow.epoch
    spared = flow.spared(outcome)
    if pausing := flow.assess(spared or outcome, lane):
        return flow.pause(pausing, lane, epoch, now)
    if not isinstance(outcome, Unanswered):
        flow.record_success(epoch)
    return flow.current_pause
