"""Click to dial of the whole process: the listener beside the sender, and the command."""

import asyncio
import json
import signal
from typing import Any

import aiohttp
import pytest

from daemon.demo.record_ids import ids
from daemon.demo.standin import DIAL_PATH, Reply, platform_error
from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import PATIENCE, running
from tests.support.dialling import QUERY, TOKEN, ask
from tests.support.hostile import crowded
from tests.support.raw import free_port

RECORD = ids(1)[1]
ON = {"click_to_dial_url": DIAL_PATH}


def listening_at(port: int) -> dict[str, str]:
    return {**ON, "api_listen": f"127.0.0.1:{port}", "api_token": TOKEN}


async def answered(port: int) -> int:
    """Ask until the listener is there."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return (await ask(port))[0]
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)


async def test_a_paused_and_a_standing_by_instance_answer_and_log_who_is_called_only_if_asked_to(
    centre: CallCentre,
) -> None:
    await centre.run("pause")
    first, second = free_port(), free_port()
    quiet = listening_at(first) | {"log_level": "debug"}
    outspoken = listening_at(second) | {"log_level": "debug", "log_personal_data": "true"}
    async with (
        running(centre.settings(**quiet), centre.folder) as one,
        running(centre.settings(**outspoken), centre.folder) as two,
    ):
        assert [await answered(port) for port in (first, second)] == [200, 200]
        events = [await daemon.until("dial.allowed") for daemon in (one, two)]
        assert [await daemon.stop() for daemon in (one, two)] == [0, 0]
    assert [event["salesforce_id"] for event in events] == [QUERY["SalesForceID"]] * 2
    logged = ("salesforce_id", "status", "source", "seconds")
    assert {*events[0]} == {"event", "level", "timestamp", *logged}
    assert {*events[1]} - {*events[0]} == {"number", "agent"}
    assert (events[1]["number"], events[1]["agent"]) == ("+4922126", QUERY["AgentUID"])
    log = json.dumps(one.events)
    assert "4922126" not in log
    assert QUERY["AgentUID"] not in log
    assert TOKEN not in log + json.dumps(two.events)
    assert centre.salesforce.violations == []
    assert await centre.states() == {}


async def test_it_answers_while_the_ledger_is_away(centre: CallCentre) -> None:
    port = free_port()
    away = f"postgresql://callstatsd@127.0.0.1:{free_port()}/ledger"
    async with running(
        centre.settings(**listening_at(port), ledger_dsn=away), centre.folder
    ) as daemon:
        assert await answered(port) == 200
        await daemon.stop()


async def test_at_sigterm_it_closes_and_answers_what_is_under_way(centre: CallCentre) -> None:
    port, release = free_port(), asyncio.Event()
    async with running(
        centre.settings(**listening_at(port), click_to_dial_timeout="20"), centre.folder
    ) as daemon:
        await answered(port)
        centre.salesforce.dial_rule = lambda _: Reply(hold=release)
        under_way = asyncio.create_task(ask(port))
        async with asyncio.timeout(PATIENCE):
            await centre.salesforce.until(lambda standin: len(standin.dials) == 2)
        daemon.signal(signal.SIGTERM)
        await daemon.until("daemon.stopping")
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await ask(port, path="/")
                except aiohttp.ClientError:
                    break
                await asyncio.sleep(0.02)
        release.set()
        assert (await under_way)[0] == 200
        assert await daemon.ended() == 0


async def test_hostile_clients_stop_neither_lines_nor_honest_questions(centre: CallCentre) -> None:
    port = free_port()
    async with running(centre.settings(**listening_at(port)), centre.folder) as daemon:
        await answered(port)
        async with crowded(port, TOKEN, 64) as answers:
            async with asyncio.timeout(PATIENCE):
                while not {"stranger 401", "malformed 400", "asker 200"} <= {*answers}:
                    await asyncio.sleep(0.05)
            for number in range(1, 21):
                await plain_call(centre.db, number, record=record_id(number))
            await centre.until(delivered=20)
            status, content, _ = await ask(port)
        assert (status, content["Source"]) == (200, "salesforce")
        assert await daemon.stop() == 0
    assert not daemon.seen("sender.paused")


async def command(centre: CallCentre, record: str, **more: str) -> tuple[int, dict[str, Any]]:
    code, output, errors = await centre.run(
        "click-to-dial", record, "+49 (0)221 26", "--agent", "agent.y", "--json", **ON, **more
    )
    assert errors == ""
    return code, json.loads(output)


async def test_the_command_says_that_a_call_is_allowed(centre: CallCentre) -> None:
    code, said = await command(centre, RECORD)
    assert code == 0
    assert list(said) == [
        "decision", "status", "ServiceNumber", "ServiceNumberName", "ServiceNumbersID", "Source",
        "reason", "message", "seconds",
    ]  # fmt: skip
    assert (said["decision"], said["status"], said["Source"]) == ("allowed", 200, "salesforce")
    assert (said["ServiceNumber"], said["reason"], said["message"]) == ("4930231250100", None, None)


@pytest.mark.parametrize(("ending", "status"), [("404", 404), ("409", 403)])
async def test_the_command_says_that_a_call_is_refused(
    centre: CallCentre, ending: str, status: int
) -> None:
    code, said = await command(centre, ids(1, ending)[1], click_to_dial_fallback="1")
    assert (code, said["decision"], said["status"]) == (1, "refused", status)
    assert (said["ServiceNumber"], said["Source"], said["reason"]) == (None, None, None)
    assert said["message"]


async def test_the_command_says_that_nothing_is_decided_or_falls_back(centre: CallCentre) -> None:
    centre.salesforce.dial_rule = lambda _: Reply(503, platform_error("SERVER_UNAVAILABLE", "no"))
    code, said = await command(centre, RECORD)
    assert (code, said["decision"], said["status"]) == (69, "undecided", 503)
    assert (said["reason"], said["Source"]) == ("unavailable", None)
    code, said = await command(centre, RECORD, click_to_dial_fallback="4999")
    assert (code, said["decision"], said["reason"]) == (0, "allowed", "unavailable")
    assert (said["ServiceNumber"], said["Source"]) == ("4999", "fallback")


@pytest.mark.parametrize(
    ("arguments", "more", "exit_code", "words"),
    [
        (("1201", "221", "--agent", "a"), ON, 2, "SalesForceID is not a record id"),
        ((RECORD, "anonymous", "--agent", "a"), ON, 2, "CallerID has no digit"),
        ((RECORD, "221", "--agent", ""), ON, 2, "AgentUID is empty"),
        ((RECORD, "221"), ON, 2, "--agent"),
        ((RECORD, "221", "--agent", "a"), {}, 78, "set CALLSTATSD_CLICK_TO_DIAL_URL"),
    ],
)
async def test_the_command_says_what_is_wrong(
    centre: CallCentre, arguments: tuple[str, ...], more: dict[str, str], exit_code: int, words: str
) -> None:
    code, output, errors = await centre.run("click-to-dial", *arguments, **more)
    assert (code, output) == (exit_code, "")
    assert words in " ".join(errors.split())
    assert centre.salesforce.dials == []


async def test_the_command_answers_people_in_a_sentence(centre: CallCentre) -> None:
    arguments = ("click-to-dial", RECORD, "221", "--agent", "a")
    code, output, _ = await centre.run(*arguments, **ON)
    assert code == 0
    assert output.startswith("Allowed, with 4930231250100, Service Hotline")
