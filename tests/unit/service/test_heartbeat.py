"""The heartbeat between a ledger and a sender that the test plays."""

import asyncio
from datetime import UTC, datetime
from typing import cast

import pytest

from daemon.database.pool import Database
from daemon.delivery.flow_control import SenderStatus
from daemon.ledger.binding import Binding
from daemon.ledger.instance import InstanceStatus, OperatorPause, Tenure, Wishes
from daemon.ledger.store import Ledger
from daemon.lines import FeedName
from daemon.service.heartbeat import Heartbeat
from daemon.web.health import InstanceState

NOTHING = Wishes(pause=None, probe=None, upgrade=False)
PAUSED = Wishes(OperatorPause(datetime.now(UTC), "tonight"), probe=None, upgrade=False)
PATIENCE = 10.0


class FakeLedger(Ledger):
    """Keeps what is written, and answers with what operators want."""

    def __init__(self) -> None:
        super().__init__(cast("Database", None))
        self.wishes = NOTHING
        self.written: list[InstanceStatus] = []
        self.calls: list[str] = []
        self.more = asyncio.Event()

    async def succeed(self, tenure: Tenure) -> None:
        self.calls.append("succeed")

    async def pause_ended(self, feed: FeedName) -> None:
        self.calls.append("pause_ended")

    async def check_binding(self, binding: Binding) -> None:
        self.calls.append("check_binding")

    async def write_heartbeat(self, beat: InstanceStatus, tenure: Tenure) -> Wishes:
        self.calls.append("write")
        self.written.append(beat)
        self.more.set()
        return self.wishes


class FakeSender:
    """Does at once what it is told to."""

    def __init__(self) -> None:
        self.paused: tuple[str, float | None] | None = None
        self.probing = False
        self.probes = 0

    def status(self) -> SenderStatus:
        return SenderStatus(self.paused, self.probing)

    def control(self, *, operator_paused: bool, probe: bool) -> None:
        self.paused = ("operator", None) if operator_paused else None
        self.probes += probe


class Played:
    """A heartbeat with all that it needs."""

    def __init__(self) -> None:
        self.ledger, self.sender = FakeLedger(), FakeSender()
        self.state, self.leave = InstanceState(), asyncio.Event()
        self.heartbeat = Heartbeat(
            *(self.ledger, self.sender, self.state, Binding(None, None, ("s",)), Tenure()),
            self.leave,
        )


async def test_what_a_dead_instance_left_is_ended_at_the_start() -> None:
    played = Played()
    await played.heartbeat.begin()
    assert played.ledger.calls == ["succeed", "write", "pause_ended"]
    assert played.state.paused is None


async def test_an_operators_pause_is_known_before_anything_is_sent_and_goes_on() -> None:
    played = Played()
    played.ledger.wishes = PAUSED
    await played.heartbeat.begin()
    assert played.ledger.calls == ["succeed", "write"]
    assert played.sender.paused == ("operator", None)
    assert played.state.paused == "operator"


async def test_a_probe_counts_as_answered_when_the_sender_says_so() -> None:
    played = Played()
    played.ledger.wishes = Wishes(pause=None, probe=7, upgrade=False)
    await played.heartbeat.begin()
    assert played.sender.probes == 1
    played.sender.probing = True
    running = asyncio.create_task(played.heartbeat.run())
    async with asyncio.timeout(PATIENCE):
        for probing in (True, True, False):
            played.sender.probing = probing
            played.ledger.more.clear()
            played.heartbeat.wake()
            await played.ledger.more.wait()
    running.cancel()
    assert played.sender.probes == 1
    assert [beat.probe_answered for beat in played.ledger.written] == [None, None, None, 7]


async def test_a_waiting_migration_makes_the_instance_leave() -> None:
    played = Played()
    played.ledger.wishes = Wishes(pause=None, probe=None, upgrade=True)
    await played.heartbeat.begin()
    assert played.leave.is_set()
    assert played.heartbeat.upgrade


@pytest.mark.parametrize("paused", [None, ("api_limit", 3.0)])
async def test_the_last_word_is_that_it_stopped_in_order(
    paused: tuple[str, float | None] | None,
) -> None:
    played = Played()
    played.sender.paused = paused
    played.ledger.wishes = PAUSED
    await played.heartbeat.end()
    [last] = played.ledger.written
    assert (last.state, last.stopped) == ("stopped", True)
    assert played.sender.paused == paused
