"""`callstatsd acd` as a shell has it, over the stand-in of the ACD's REST server."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from daemon.demo.acd_standin import TOKEN, AcdStandIn, serve_acd
from daemon.demo.standin import Reply
from tests.support.daemon_process import command, settings
from tests.support.raw import free_port

NOBODY = "postgresql://postgres@127.0.0.1:1/nothing"
NOWHERE = "http://127.0.0.1:1"
CALLER = "4930123456789"
CREATE = ("create", "--type", "callback", "--group", "235", "--subject", "Call")


@dataclass
class Acd:
    standin: AcdStandIn
    url: str
    folder: Path

    async def run(self, *arguments: str, **more: str) -> tuple[int, str, str]:
        given = {"acd_url": self.url, "acd_token": TOKEN, "log_level": "info"} | more
        environment = settings(NOBODY, NOWHERE, **given)
        return await command("acd", *arguments, environment=environment, folder=self.folder)

    async def run_json(self, *arguments: str) -> Any:
        code, output, errors = await self.run(*arguments, "--json")
        assert code == 0, errors
        return json.loads(output)

    def add(self, number: int, **fields: Any) -> dict[str, Any]:
        created = datetime(2026, 11, 20, 8, 0) + timedelta(minutes=number)  # noqa: DTZ001
        event = {
            "ID": number,
            "AcdEventTypesID": 3,
            "AcdEventStatusID": 20,
            "AcdGroupsID": 235,
            "Sender": CALLER,
            "Subject": f"Call {CALLER} or mail max@example.com",
            "UserData": str(number),
            "dtCreated": created.isoformat(timespec="milliseconds"),
            "SkillsValue1": None,
        } | fields
        self.standin.events.append(event)
        return event


@pytest.fixture
async def acd(tmp_path: Path) -> AsyncIterator[Acd]:
    standin = AcdStandIn()
    async with serve_acd(standin) as url:
        yield Acd(standin, url, tmp_path)
    assert standin.violations == []


async def test_events_are_filtered_here_and_the_newest_is_last(acd: Acd) -> None:
    third, first, second = acd.add(3), acd.add(1), acd.add(2, AcdEventTypesID=6, AcdGroupsID=7)
    acd.add(4, AcdEventStatusID=99, dtCreated=None)
    for arguments, found in (
        ((), [acd.standin.events[3], first, second, third]),
        (("--type", "callback", "--status", "NEW"), [first, third]),
        (("--type", "6"), [second]),
        (("--group", "7"), [second]),
        (("--status", "done"), [acd.standin.events[3]]),
        (("--user-data", "1"), [first]),
        (("--since", "2026-11-20T08:02"), [second, third]),
        (("--limit", "1"), [third]),
        (("--limit", "0", "--type", "3"), [acd.standin.events[3], first, third]),
    ):
        told = await acd.run_json("events", *arguments)
        assert told == {"events": found, "count": len(found), "total": 4}, arguments


async def test_no_more_than_fifty_events_are_shown_unless_asked_for(acd: Acd) -> None:
    for number in range(1, 61):
        acd.add(number)
    assert [e["ID"] for e in (await acd.run_json("events"))["events"]] == list(range(11, 61))
    assert len((await acd.run_json("events", "--limit", "0"))["events"]) == 60


async def test_tables_mask_numbers_and_mail_addresses_and_do_what_no_event_says(acd: Acd) -> None:
    acd.add(1, Subject=f"[red]Call[/red] {CALLER} or max@example.com\x1b[2J\nnext", UserData=CALLER)
    acd.add(2, Sender="max@example.com", UserData="callstatsd-alert-12345678-1")
    acd.add(3, Sender="4711", AcdEventTypesID=77, AcdEventStatusID=None)
    for arguments in (("events",), ("event", "1"), ("event", "2")):
        code, output, errors = await acd.run(*arguments)
        assert (code, errors) == (0, "")
        assert CALLER[:8] not in output
        assert "max@" not in output
        assert "\x1b" not in output
    assert "callstatsd-alert-12345678-1" in (await acd.run("event", "2"))[1]
    assert "[red]Call[/red]" in (await acd.run("event", "1"))[1]
    output = (await acd.run("events"))[1]
    assert "4711" not in output
    assert "2026-11-20 08:01:00  Callback" in output
    assert output.splitlines()[-1] == "3 of 3 events shown; the ACD has 3."
    assert "Callback" in output
    assert "New" in output


async def test_no_address_that_an_event_names_is_fetched(acd: Acd) -> None:
    named = acd.url.replace("/rest/", "/rest/named/")
    data = f'<!DOCTYPE x SYSTEM "{named}"><eventData><urls>{named}</urls></eventData>'
    acd.add(1, CrmURL=named, EventData=data)
    for arguments in (("events",), ("event", "1")):
        assert (await acd.run(*arguments))[0] == 0
    assert [request.path for request in acd.standin.requests] == [
        "/acd/events",
        "/acd/events/event/1",
    ]


async def test_one_event_is_shown_or_named_as_missing(acd: Acd) -> None:
    event = acd.add(7)
    assert await acd.run_json("event", "7") == {"event": event}
    code, output, errors = await acd.run("event", "8")
    assert (code, output) == (1, "")
    assert errors == "callstatsd: the ACD refused (404): AcdEvent 8 not found\n"


async def test_types_and_statuses_say_where_they_come_from(acd: Acd) -> None:
    types = await acd.run_json("types")
    assert types["source"] == "acd"
    assert types["types"][2] == {"ID": 3, "ShortText": "AcdEventTypes.Callback"}
    acd.standin.lists = False
    statuses = await acd.run_json("statuses")
    assert statuses["source"] == "built_in"
    assert [row["ID"] for row in statuses["statuses"]] == [
        0, 1, 2, 4, 10, 20, 30, 40, 98, 99, 100,
    ]  # fmt: skip
    assert "built in" in (await acd.run("types"))[1]


async def test_create_sends_what_is_given_and_normalises_numbers(acd: Acd) -> None:
    told = await acd.run_json(*CREATE, "--sender", "+49 (0)30 123456-789", "--body", "Thanks.")
    assert told == {"event": acd.standin.events[0], "updated": False}
    assert json.loads(acd.standin.requests[0].body) == {
        "AcdEventTypesID": 3,
        "AcdGroupsID": 235,
        "Sender": CALLER,
        "Subject": "Call",
        "Body": "Thanks.",
    }
    code, output, _ = await acd.run(*CREATE, "--sender", CALLER)
    assert code == 0
    assert output.startswith("Created an event.\n")
    assert CALLER[:8] not in output


async def test_create_says_if_an_event_got_a_comment(acd: Acd) -> None:
    acd.standin.unique_groups = {235}
    await acd.run_json(*CREATE, "--sender", CALLER)
    assert (await acd.run_json(*CREATE, "--sender", CALLER))["updated"] is True
    assert (await acd.run(*CREATE, "--sender", CALLER))[1].startswith("Added a comment")


async def test_a_dry_run_sends_nothing_and_needs_no_acd(acd: Acd) -> None:
    arguments = (*CREATE, "--sender", CALLER, "--dry-run")
    code, output, errors = await acd.run(*arguments, "--json", acd_url="", acd_token="")
    assert (code, errors) == (0, "")
    assert json.loads(output) == {
        "request": {
            "AcdEventTypesID": 3, "AcdGroupsID": 235, "Sender": CALLER, "Subject": "Call",
        }
    }  # fmt: skip
    code, output, _ = await acd.run(*arguments)
    assert code == 0
    assert CALLER[:8] not in output
    assert acd.standin.requests == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "--group", "1", "--sender", "1", "--subject", "x"),
        ("create", "--type", "3", "--group", "1", "--subject", "x"),
        ("create", "--type", "3", "--group", "1", "--sender", "1"),
        (*CREATE, "--sender", ""),
        (*CREATE, "--sender", "anonymous"),
        (*CREATE, "--sender", "1", "--agent-group", "1"),
        (*CREATE, "--sender", "1", "--priority", "-1"),
        (*CREATE, "--sender", "1", "--appointment-date", "2026-02-30"),
        (*CREATE, "--sender", "1", "--crm-url", "example.com"),
        ("create", "--type", "teleport", "--group", "1", "--sender", "1", "--subject", "x"),
        ("events", "--type", "teleport"),
        ("events", "--since", "yesterday"),
        ("events", "--limit", "-1"),
        ("event", "x"),
        ("event", "-1"),
        ("nothing",),
    ],
)
async def test_wrong_usage_exits_with_2_and_sends_nothing(
    acd: Acd, arguments: tuple[str, ...]
) -> None:
    code, output, errors = await acd.run(*arguments)
    assert (code, output) == (2, "")
    assert "Traceback" not in errors
    assert acd.standin.requests == []


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(400, {"status": 400, "error": "no"}), 1),
        (Reply(403, {"status": 403, "error": "no"}), 1),
        (Reply(409, {"status": 409, "error": "no"}), 1),
        (Reply(500, {"status": 500, "error": "no"}), 1),
        (Reply(404, {"status": 404, "error": "no"}), 1),
        (Reply(200, {"status": 403, "error": "no", "records": []}), 1),
        (Reply(404), 78),
        (Reply(401), 78),
        (Reply(302, None, {"Location": "/"}), 78),
        (Reply(200, {}), 78),
        (Reply(200, "<html>"), 78),
        (Reply(429), 69),
        (Reply(503), 69),
        (Reply(cut="before"), 69),
    ],
)
async def test_each_answer_has_its_exit_code(acd: Acd, reply: Reply, expected: int) -> None:
    acd.add(1)
    acd.standin.rule = lambda _: reply
    for arguments in (("events",), ("event", "1"), (*CREATE, "--sender", CALLER)):
        code, output, errors = await acd.run(*arguments)
        assert (code, output) == (expected, ""), errors
        assert errors.startswith("callstatsd: ")
        assert TOKEN not in errors
        unsure = expected == 69 and arguments[0] == "create"
        assert ("it may have been created: look with `callstatsd acd events`" in errors) == unsure


async def test_an_acd_that_is_away_exits_with_69(acd: Acd) -> None:
    code, _, errors = await acd.run("events", acd_url=f"http://127.0.0.1:{free_port()}/rest")
    assert code == 69
    assert "connection refused" in errors


async def test_what_the_acd_repeats_of_a_caller_is_masked(acd: Acd) -> None:
    acd.standin.rule = lambda _: Reply(400, {"status": 400, "error": f"{CALLER} is blocked"})
    code, _, errors = await acd.run(*CREATE, "--sender", CALLER)
    assert code == 1
    assert errors == "callstatsd: the ACD refused (400): …89 is blocked\n"


async def test_the_log_has_nothing_but_requests_and_those_at_debug(acd: Acd) -> None:
    code, _, errors = await acd.run(*CREATE, "--sender", CALLER, log_level="debug")
    assert code == 0
    [entry] = [json.loads(line) for line in errors.splitlines()]
    assert (entry["event"], entry["level"], entry["status"]) == ("request.done", "debug", 200)
    assert CALLER not in errors


async def test_without_an_address_all_but_a_dry_run_exit_with_78(acd: Acd) -> None:
    for arguments in (("events",), ("event", "1"), ("types",), (*CREATE, "--sender", CALLER)):
        code, _, errors = await acd.run(*arguments, acd_url="")
        assert code == 78
        assert errors.startswith("callstatsd: CALLSTATSD_ACD_URL is missing")
        assert len(errors.splitlines()) == 1


async def test_the_options_of_settings_may_stand_before_and_after_the_command(acd: Acd) -> None:
    environment = settings(NOBODY, NOWHERE, acd_url=acd.url, acd_token=TOKEN)
    own = [name for name in environment if name.startswith("CALLSTATSD_")]
    text = "".join(f"{name}='{environment.pop(name)}'\n" for name in own)
    (acd.folder / "north.env").write_text(text)
    option = ("--env-file", "north.env")
    for arguments in (
        (*option, "acd", "types"),
        ("acd", *option, "types"),
        ("acd", "types", *option),
    ):
        code, output, _ = await command(*arguments, environment=environment, folder=acd.folder)
        assert code == 0
        assert "AcdEventTypes.Callback" in output
