"""A bad day of a whole daemon at debug level: its log tells of lines, not of people or secrets."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from daemon.demo import standin
from daemon.demo.standin import Incoming, Reply
from tests import calls
from tests.calls import plain_call, record_id
from tests.daemon_process import running
from tests.whole import Site

CALLER = "493012345678"
PERSONAL = {
    CALLER,
    CALLER[2:],  # however it was written
    "49301234567",  # who calls in seed 003
    "agent.w",
    "agent.z",
    calls.SERVICE,
    calls.SERVICE_NAME,
    "CallerID",
    "AgentUID",
}
DATABASE_PASSWORD = "pg-5ecret-7"
SECRETS = {standin.CLIENT_SECRET, DATABASE_PASSWORD, "00DDemo!Token"}

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


async def bad_day(site: Site, **settings: str) -> str:
    """Let everything go wrong once, with people's data in the midst of it; returns the log."""
    site.salesforce.rule = Hostile()
    site.salesforce.token_rule = HostileTokens()
    site.dsn = site.dsn.replace("postgres@", f"postgres:{DATABASE_PASSWORD}@")
    assert DATABASE_PASSWORD in site.dsn
    start = datetime.now(UTC) - timedelta(minutes=10)
    await calls.seed_003(site.db, start=start, record=record_id(1))
    for number in range(3, 10):
        await plain_call(site.db, number, record=record_id(number), number=f"+{CALLER}")
    await plain_call(site.db, 10, record=None, number=f"00{CALLER}")
    # The ledger refuses, and says what it refuses.
    await site.db.execute(
        """
        CREATE FUNCTION callstatsd.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'no room for %', NEW.record; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON callstatsd.line
        FOR EACH ROW EXECUTE FUNCTION callstatsd.refuse();
        """
    )
    async with running(site.settings(retry_max="1", **settings), site.folder) as daemon:
        await daemon.told("database.lost")
        await site.db.execute("DROP FUNCTION callstatsd.refuse CASCADE")
        await site.until(delivered=5 + 4, rejected=1, conflict=1, not_found=1, skipped=1)
        # So does the source: a view that cannot read a number.
        await site.db.execute(
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
        await daemon.told("SQLSTATE 22P02")
        assert await daemon.stop() == 0
    return daemon.text


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_no_person_and_no_secret_is_in_the_log(site: Site, log_format: str) -> None:
    log = await bad_day(site, log_format=log_format)
    for word in PERSONAL | SECRETS:
        assert word not in log, word
    for event in (
        *("database.lost", "sender.paused", "line.rejected", "line.conflict", "line.not_found"),
        *("line.retried", "line.locked", "line.delivered", "line.skipped", "request.done"),
    ):
        assert event in log
    assert "Traceback" not in log


async def test_people_are_in_the_log_where_that_is_wanted_but_no_secret(site: Site) -> None:
    log = await bad_day(site, log_personal_data="true")
    for word in (CALLER, "agent.w", calls.SERVICE_NAME):
        assert word in log, word
    for word in SECRETS:
        assert word not in log, word


async def test_debug_shows_each_request_without_its_body(site: Site) -> None:
    await plain_call(site.db, 3, record=record_id(3), number=CALLER)
    site.salesforce.rule = Hostile()
    async with running(site.settings(), site.folder) as daemon:
        await site.until(rejected=1)
        assert await daemon.stop() == 0
    token, write = daemon.seen("request.done")
    common = {"event", "level", "timestamp", "method", "path", "status", "seconds"}
    assert token.keys() == common
    assert (token["path"], token["status"]) == (standin.TOKEN_PATH, 200)
    assert write.keys() == common | {"key", "error"}
    assert (write["method"], write["path"]) == ("POST", standin.WRITE_PATH)
    assert (write["key"], write["status"], write["error"]) == ("3-0-0-0", 400, None)
