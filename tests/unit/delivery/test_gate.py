"""Two feeds before one org: which pauses hold back whom, and what ends them."""

import pytest

from daemon.delivery.backoff import Backoff
from daemon.delivery.flow_control import FlowControl
from daemon.delivery.gate import OrgGate, Pause
from daemon.delivery.outcome import PauseSender
from daemon.lines import ORG_REASONS, PauseReason

BACKOFF = Backoff(1.0, 60.0)
ENDPOINT_REASONS = set(PauseReason) - ORG_REASONS - {PauseReason.OPERATOR}


def two_feeds(concurrency: int = 8) -> tuple[FlowControl, FlowControl]:
    org = OrgGate(concurrency)
    one, other = (FlowControl(org, concurrency, BACKOFF, endpoint_proven=True) for _ in range(2))
    return one, other


def pause(flow: FlowControl, reason: PauseReason, now: float = 0.0) -> Pause:
    began = flow.pause(PauseSender(reason, None, None, None), "A", flow.epoch, now)
    assert began is not None
    return began


@pytest.mark.parametrize("reason", sorted(ENDPOINT_REASONS))
def test_a_pause_of_one_endpoint_holds_back_its_feed_alone(reason: PauseReason) -> None:
    one, other = two_feeds()
    pause(one, reason)
    assert not one.may_start(0, 0.0, 0)
    assert other.may_start(0, 0.0, 0)
    assert other.may_start(7, 0.0, 7)
    assert other.current_pause is None


@pytest.mark.parametrize("reason", sorted(ORG_REASONS))
def test_a_pause_of_the_org_holds_back_both_and_an_answer_to_either_ends_it(
    reason: PauseReason,
) -> None:
    one, other = two_feeds()
    began = pause(one, reason)
    assert one.current_pause == other.current_pause == began
    assert not other.may_start(0, 0.0, 0)
    # One probe in all: a request of the one feed keeps the other's from starting.
    assert other.may_start(0, began.until, 0)
    assert not other.may_start(0, began.until, 1)
    assert other.record_success(other.epoch)
    assert one.current_pause is None
    assert one.may_start(1, 0.0, 1)
    assert not one.may_start(0, 0.0, 2)


def test_an_answer_to_a_request_from_before_a_pause_of_the_org_ends_nothing() -> None:
    one, other = two_feeds()
    before = other.epoch
    began = pause(one, PauseReason.UNAVAILABLE)
    assert not other.record_success(before)
    assert other.pause(PauseSender(PauseReason.UNAVAILABLE, 503, 9.0, None), "B", before, 1) is None
    assert other.current_pause == began


def test_an_answer_to_one_feed_does_not_end_the_other_endpoints_pause() -> None:
    one, other = two_feeds()
    began = pause(one, PauseReason.ENDPOINT_MISSING)
    assert not other.record_success(other.epoch)
    assert one.current_pause == began


def test_a_probe_that_meets_a_fault_of_the_org_moves_the_pause_there_and_back() -> None:
    one, other = two_feeds()
    assert pause(one, PauseReason.ENDPOINT_MISSING).tries == 1
    assert pause(one, PauseReason.UNAVAILABLE).tries == 2
    assert other.current_pause is not None
    back = pause(one, PauseReason.ENDPOINT_MISSING)
    assert back.tries == 3
    assert other.current_pause is None
    assert one.current_pause == back


def test_a_pause_of_the_org_leaves_the_other_endpoints_pause_as_it_is() -> None:
    one, other = two_feeds()
    missing = pause(other, PauseReason.ENDPOINT_MISSING)
    down = pause(one, PauseReason.UNAVAILABLE)
    assert other.current_pause == down
    assert one.record_success(one.epoch)
    assert other.current_pause == missing
    assert not other.may_start(0, 0.0, 0)
