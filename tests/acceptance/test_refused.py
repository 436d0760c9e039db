"""What an administrator sees of an endpoint that fails: in the log, in `status`, on the page."""

import asyncio
import json
import signal
import time
from collections import Counter
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

import pytest

from daemon.demo.standin import Incoming, Reply, Rule
from daemon.settings.values import parse_local_time
from tests.integration.demo.test_faults import add_lines
from tests.integration.web.test_health import free_port, get, samples
from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import PATIENCE, Daemon, running
from tests.support.expected import BERLIN
from tests.support.load import stretched

STREAK = 20
CONCURRENCY = 4
PLATFORM = [{"errorCode": "APEX_ERROR", "message": "System.NullPointerException for Müller"}]


def bad(*good: str, body: Any = PLATFORM) -> Rule:
    """A deployment that refuses all lines but these."""

    def rule(incoming: Incoming) -> Reply | None:
        return None if incoming.key in good else Reply(400, body)

    return rule


async def probes(daemon: Daemon, count: int) -> None:
    """Wait for so many probes that failed."""
    already = len(daemon.seen("sender.still_paused"))
    await daemon.until("sender.still_paused", already + count)


def covered(command: str) -> tuple[datetime, datetime]:
    """The window of a command as `requeue` reads it."""
    words = command.split()
    assert words[:6] == ["callstatsd", "requeue", "--state", "rejected", "--state", "not_found"]
    assert (words[6], words[8]) == ("--settled-from", "--settled-to")
    return parse_local_time(words[7], BERLIN), parse_local_time(words[9], BERLIN)


@pytest.mark.parametrize("count", [2_000, pytest.param(20_000, marks=pytest.mark.long)])
async def test_thousands_of_bad_lines_keep_a_good_one_waiting_for_seconds(
    centre: CallCentre, count: int
) -> None:
    """They cost the streak; a restart, and one by SIGKILL, costs nothing more."""
    await add_lines(centre, [record_id(number) for number in range(count)])
    good = f"{count + 1}-0-0-0"
    centre.salesforce.rule = bad(good)
    settings = centre.settings(retry_max="1", log_level="debug", concurrency=str(CONCURRENCY))
    assert (await centre.run("pause"))[0] == 0
    async with running(settings, centre.folder) as daemon:
        await daemon.until("sender.paused", reason="operator")
        await centre.until(pending=count)
        assert (await centre.run("resume"))[0] == 0
        await daemon.until("sender.paused", reason="endpoint_failing")
        await probes(daemon, 3)
        assert await centre.states() == Counter(rejected=STREAK, pending=count - STREAK)
        assert await daemon.stop() == 0

    async with running(settings, centre.folder) as daemon:
        paused = await daemon.until("sender.paused")
        assert (paused["reason"], paused["retry_in"]) == ("endpoint_failing", 0)
        await probes(daemon, 3)
        assert not daemon.seen("line.rejected")
        daemon.signal(signal.SIGKILL)
        await daemon.ended()

    async with running(settings, centre.folder) as daemon:
        await probes(daemon, 2)
        began = time.monotonic()
        await plain_call(centre.db, count + 1, record=record_id(count))
        await daemon.until("line.delivered", key=good)
        seconds = time.monotonic() - began
        first = list(takewhile(lambda one: one["event"] != "line.delivered", daemon.events))
        assert [one for one in first if one["event"] == "line.rejected"] == []
        assert await daemon.stop() == 0
    print(f"delivered after {seconds:.2f} s")  # noqa: T201 - shown by pytest -s
    assert seconds < stretched(PATIENCE / 2)
    states = await centre.states()
    # The endpoint answered, so the sender went on, and met the bad ones again, also at its stop.
    assert states["rejected"] <= 2 * STREAK + CONCURRENCY
    assert states["delivered"] == 1
    assert sum(states.values()) == count + 1


async def test_what_was_refused_is_named_until_it_is_sent_again(centre: CallCentre) -> None:
    port = free_port()
    for number in range(1, 31):
        await plain_call(centre.db, number, record=record_id(number))
    centre.salesforce.rule = bad()
    settings = centre.settings(retry_max="1", http_listen=f"127.0.0.1:{port}")
    async with running(settings, centre.folder) as daemon:
        await daemon.until("sender.paused", reason="endpoint_failing")
        await probes(daemon, 2)
        status = await centre.run_json("status")
        [streak] = status["streaks"]
        assert (streak["rejected"], streak["not_found"]) == (STREAK, 0)
        _, text, _ = await centre.run("status")
        assert "20 lines were refused while the endpoint was failing" in text
        assert streak["requeue"] in text
        _, html, _ = await get(port, "/")
        assert "20 lines were refused while the endpoint was failing" in html
        assert all(f"<span>{word}</span>" in html for word in streak["requeue"].split())
        assert "No line is lost by it" not in html

        centre.salesforce.rule = None
        resumed = await daemon.until("sender.resumed")
        await centre.until(rejected=STREAK, delivered=10)
        assert (resumed["rejected"], resumed["not_found"]) == (STREAK, 0)
        assert (resumed["since"], resumed["until"]) == (streak["since"], streak["until"])
        since, until = (datetime.fromisoformat(streak[end]) for end in ("since", "until"))
        times = await centre.db.fetchrow(
            "SELECT min(settled_at), max(settled_at) FROM line WHERE state = 'rejected'"
        )
        assert (since, until) == tuple(times)
        window = covered(streak["requeue"])
        assert window[0] <= since <= until < window[1]
        assert since - window[0] < timedelta(seconds=1)
        assert window[1] - until <= timedelta(seconds=1)

        assert (await centre.run_json("status"))["streaks"] == [streak]
        found = samples((await get(port, "/metrics"))[1])
        assert 0 < found["callstatsd_oldest_kept_seconds"] < 3600
        assert (await centre.run("requeue", "--state", "rejected"))[0] == 0
        await centre.until(delivered=30)
        assert "streaks" not in await centre.run_json("status")
        assert await daemon.stop() == 0


async def test_a_standby_that_takes_over_goes_on_with_the_pause(centre: CallCentre) -> None:
    for number in range(1, 41):
        await plain_call(centre.db, number, record=record_id(number))
    centre.salesforce.rule = bad()
    settings = centre.settings(retry_max="1")
    async with (
        running(settings, centre.folder) as first,
        running(settings, centre.folder) as second,
    ):
        active, standby = first, second
        await asyncio.wait(
            [asyncio.create_task(each.until("daemon.started")) for each in (first, second)],
            return_when=asyncio.FIRST_COMPLETED,
        )
        if second.seen("daemon.started"):
            active, standby = second, first
        await active.until("sender.paused", reason="endpoint_failing")
        await probes(active, 2)
        active.signal(signal.SIGKILL)
        await active.ended()
        paused = await standby.until("sender.paused")
        assert paused["reason"] == "endpoint_failing"
        await probes(standby, 3)
        assert not standby.seen("line.rejected")
        assert await centre.states() == Counter(rejected=STREAK, pending=20)
        centre.salesforce.rule = None
        resumed = await standby.until("sender.resumed")
        assert resumed["rejected"] == STREAK
        await centre.until(rejected=STREAK, delivered=20)
        assert await standby.stop() == 0


@pytest.mark.parametrize(
    ("status", "body", "event", "code"),
    [
        (400, PLATFORM, "line.rejected", "APEX_ERROR"),
        (500, PLATFORM, "line.retried", "APEX_ERROR"),
        (422, {"code": "NO_SUCH_AGENT", "text": "Müller"}, "line.rejected", "NO_SUCH_AGENT"),
        (409, {"code": "THERE_ALREADY"}, "line.conflict", "THERE_ALREADY"),
        (404, {"code": "RECORD_GONE"}, "line.not_found", "RECORD_GONE"),
        (423, {"code": "ROW_LOCKED"}, "line.locked", "ROW_LOCKED"),
        (504, {"code": "TOO_SLOW"}, "line.retried", "TOO_SLOW"),
        (422, {"code": "Müller"}, "line.rejected", None),
        (422, "49301234567", "line.rejected", None),
    ],
)
async def test_events_of_a_line_carry_the_code_of_the_answer(
    centre: CallCentre, status: int, body: Any, event: str, code: str | None
) -> None:
    await plain_call(centre.db, 1, record=record_id(1))
    replies = [Reply(status, body)]
    centre.salesforce.rule = lambda _: replies.pop() if replies else None
    async with running(centre.settings(), centre.folder) as daemon:
        told = await daemon.until(event)
        assert await daemon.stop() == 0
    assert told.get("error_code") == code
    assert ("error_code" in told) is (code is not None)
    assert told["status"] == status
    assert "Müller" not in json.dumps(daemon.events, ensure_ascii=False)
