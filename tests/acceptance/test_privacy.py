"""A bad day of a whole daemon at debug level: its log names lines, not people or secrets."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daemon.demo import grants, standin
from daemon.demo.standin import Incoming, Reply
from tests.support import calls, rows
from tests.support.call_centre import CallCentre
from tests.support.calls import plain_call, record_id
from tests.support.daemon_process import running

CALLER = "493012345678"
PERSONAL = {
    CALLER,
    CALLER[2:],  # however it was written
    "49301234567",  # who calls in the example call
    "agent.w",
    "agent.z",
    calls.SERVICE,
    calls.SERVICE_NAME,
    "CallerID",
    "AgentUID",
}
DATABASE_PASSWORD = "pg-5ecret-7"
SECRETS = {grants.CLIENT_SECRET, DATABASE_PASSWORD, "00DDemo!Token"}

REFUSED = {3: 400, 4: 409, 5: 404, 6: 500, 7: 423, 8: 503}
"""Calls whose first request is answered so, with all of the request in the answer."""


class Hostile:
    """Repeats whatever was said, personal or secret; when asked again it does the work."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def __call__(self, incoming: Incoming) -> Reply | None:
        call = int(incoming.key.split("-")[0])
        if incoming.key in self.asked:
            return None
        self.asked.add(incoming.key)
        if call == 9:
            return Reply(cut="after")
        if call not in REFUSED:
            return None
        said = [{"errorCode": "ECHO", "message": f"{incoming.record} {dict(incoming.headers)}"}]
        return Reply(REFUSED[call], said, {"X-Echo": CALLER, "Retry-After": "0.1"})


class HostileTokens:
    """Refuses the first login, with all that it said."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, form: Mapping[str, str]) -> Reply | None:
        self.asked += 1
        if self.asked > 1:
            return None
        return Reply(400, {"error": "invalid_client", "error_description": json.dumps(dict(form))})


async def bad_day(centre: CallCentre, **settings: str) -> str:
    """Let everything go wrong once, with people's data in the midst of it; returns the log."""
    centre.salesforce.rule = Hostile()
    centre.salesforce.token_rule = HostileTokens()
    centre.dsn = centre.dsn.replace("postgres@", f"postgres:{DATABASE_PASSWORD}@")
    assert DATABASE_PASSWORD in centre.dsn
    start = datetime.now(UTC) - timedelta(minutes=10)
    await calls.seed_003(centre.db, start=start, record=record_id(1))
    for number in range(3, 10):
        await plain_call(centre.db, number, record=record_id(number), number=f"+{CALLER}")
    await plain_call(centre.db, 10, record=None, number=f"00{CALLER}")
    # The ledger refuses, and says what it refuses.
    await centre.db.execute(
        """
        CREATE FUNCTION callstatsd.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'no room for %', NEW.record; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON callstatsd.line
        FOR EACH ROW EXECUTE FUNCTION callstatsd.refuse();
        """
    )
    async with running(centre.settings(retry_max="1", **settings), centre.folder) as daemon:
        await daemon.until_text("database.lost")
        await centre.db.execute("DROP FUNCTION callstatsd.refuse CASCADE")
        await centre.until(delivered=5 + 4, rejected=1, conflict=1, not_found=1, skipped=1)
        # So does the source: a view that cannot read a number.
        await centre.db.execute(
            f"""
            ALTER TABLE StatisticsPartA RENAME TO PartA;
            CREATE VIEW StatisticsPartA AS
            SELECT ID, ClientsID, ServiceNumbersID, bOutbound,
                   (ANumber || left('x{CALLER}', ID::int))::bigint::text AS ANumber,
                   BNumber, dtCallStart, dtCallAlert, dtCallConnect, dtCallEnd,
                   CauseCodesID, UserData
            FROM PartA
            """
        )
        await daemon.until_text("SQLSTATE 22P02")
        assert await daemon.stop() == 0
    return daemon.text


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_no_person_and_no_secret_is_in_the_log(centre: CallCentre, log_format: str) -> None:
    log = await bad_day(centre, log_format=log_format)
    for word in PERSONAL | SECRETS:
        assert word not in log, word
    for event in (
        *("database.lost", "sender.paused", "line.rejected", "line.conflict", "line.not_found"),
        *("line.retried", "line.locked", "line.delivered", "line.skipped", "request.done"),
    ):
        assert event in log
    assert "Traceback" not in log


async def test_people_are_in_the_log_where_that_is_wanted_but_no_secret(centre: CallCentre) -> None:
    log = await bad_day(centre, log_personal_data="true")
    for word in (CALLER, "agent.w", calls.SERVICE_NAME):
        assert word in log, word
    for word in SECRETS:
        assert word not in log, word


async def test_debug_shows_each_request_without_its_body(centre: CallCentre) -> None:
    await plain_call(centre.db, 3, record=record_id(3), number=CALLER)
    centre.salesforce.rule = Hostile()
    async with running(centre.settings(), centre.folder) as daemon:
        await centre.until(rejected=1)
        assert await daemon.stop() == 0
    token, write = daemon.seen("request.done")
    common = {"event", "level", "timestamp", "method", "path", "status", "seconds"}
    assert token.keys() == common
    assert (token["path"], token["status"]) == (standin.TOKEN_PATH, 200)
    assert write.keys() == common | {"key", "error"}
    assert (write["method"], write["path"]) == ("POST", standin.WRITE_PATH)
    assert (write["key"], write["status"], write["error"]) == ("3-0-0-0", 400, None)


PAGE = (Path(__file__).parents[2] / "docs" / "privacy.md").read_text(encoding="utf-8")


def steps_of_erasing() -> tuple[str, str, str]:
    """What the page says: the SQL that finds calls, the command, the SQL that erases."""
    section = PAGE.split("## Erase one caller")[1].split("\n## ")[0]
    find, erase = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    (command,) = re.findall(r"`callstatsd (discard [^`]*)`", section)
    return find, command, erase


async def all_of_the_ledger(centre: CallCentre) -> str:
    tables = await centre.db.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'callstatsd'"
    )
    rows = [
        await centre.db.fetch(f"SELECT t::text FROM callstatsd.{table['tablename']} AS t")
        for table in tables
    ]
    return "\n".join(str(row[0]) for found in rows for row in found)


async def test_the_documented_way_to_erase_a_caller_leaves_nothing_and_brings_nothing_back(
    centre: CallCentre,
) -> None:
    find, discard, erase = steps_of_erasing()
    for number in range(1, 6):
        await plain_call(centre.db, number, record=record_id(number), number=f"+{CALLER}")
    await plain_call(centre.db, 6, record=None, number=f"+{CALLER}")
    await plain_call(centre.db, 7, record=record_id(7), number="+4940999999")
    statuses = {2: 400, 3: 404, 4: 423, 5: 409}
    centre.salesforce.rule = lambda incoming: (
        Reply(status, f"about {CALLER}")
        if (status := statuses.get(int(incoming.key.split("-")[0])))
        else None
    )
    states = {"delivered": 2, "rejected": 1, "not_found": 1, "pending": 1, "conflict": 1}
    async with running(centre.settings(retry_max="60"), centre.folder) as daemon:
        await centre.until(**states, skipped=1)
        await daemon.until("line.locked")

        found = await centre.db.fetch(find.replace("493012345678", CALLER))
        calls_of_caller = sorted(row["call_id"] for row in found)
        assert calls_of_caller == [1, 2, 3, 4, 5, 6]
        await centre.db.execute(
            "UPDATE StatisticsPartA SET ANumber = NULL, UserData = NULL WHERE ID < 7"
        )
        for number in calls_of_caller:
            command = discard.replace("1201", str(number)).split()
            assert (await centre.run(*command))[0] == 0
        for statement in erase.replace("1201, 1207", "1, 2, 3, 4, 5, 6").split(";\n")[:-1]:
            await centre.db.execute(statement)
        assert await daemon.stop() == 0
    received = centre.salesforce.received

    left = await all_of_the_ledger(centre)
    assert CALLER not in left
    for number in range(1, 7):
        assert record_id(number) not in left
    assert record_id(7) in left
    assert "4940999999" in left

    # Neither sweeps nor a backfill take the calls again.
    async with running(centre.settings(), centre.folder) as daemon:
        await daemon.until("daemon.started")
        code, _, errors = await centre.run("backfill", "--from", "2020-01-01", "--to", "2099-01-01")
        assert (code, CALLER in errors) == (0, False)
        assert await daemon.stop() == 0
    assert await all_of_the_ledger(centre) != ""
    assert CALLER not in await all_of_the_ledger(centre)
    assert centre.salesforce.received == received


async def test_the_documented_way_erases_the_callbacks_of_a_caller_too(centre: CallCentre) -> None:
    find, discard, erase = steps_of_erasing()
    created = datetime.now(UTC) - timedelta(minutes=2)
    numbers = {73001: f"+{CALLER}", 73002: f"+{CALLER}", 73003: "+4940999999"}
    for event, number in numbers.items():
        columns = {"sender": number, "userdata": record_id(event), "dtcreated": created}
        await rows.add(centre.db, rows.event(event, acdgroupsid=None, **columns))
    centre.salesforce.rule = lambda incoming: (
        Reply(400, f"about {CALLER}") if incoming.key == "callback-73002" else None
    )
    on = {"callback_url": standin.CALLBACK_PATH}
    async with running(centre.settings(**on), centre.folder) as daemon:
        await centre.until(delivered=2, rejected=1)
        assert await daemon.stop() == 0

    found = await centre.db.fetch(find.replace("493012345678", CALLER))
    assert sorted((row["feed"], row["call_id"]) for row in found) == [
        ("callbacks", 73001), ("callbacks", 73002),
    ]  # fmt: skip
    await centre.db.execute("DELETE FROM AcdEvents WHERE ID < 73003")
    for event in (73001, 73002):
        command = discard.replace("--call-id 1201", f"--callback {event}").split()
        assert (await centre.run(*command, **on))[0] == 0
    erase = erase.replace("1201, 1207", "73001, 73002").replace("= 'statistics'", "= 'callbacks'")
    for statement in erase.split(";\n")[:-1]:
        await centre.db.execute(statement)

    left = await all_of_the_ledger(centre)
    assert CALLER not in left
    assert record_id(73001) not in left
    assert "00073001" not in left  # the answer
    assert "callback-73002" in left  # the key
    assert "4940999999" in left
