"""The page in the visitor's language, over real HTTP and a real ledger."""

import asyncio
import re
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import asyncpg
import pytest

from daemon.ledger.acts import Act, ActKind
from daemon.ledger.operator import OperatorStore
from daemon.ledger.overview import LineFilter
from daemon.lines import KEPT_OUT, NO_ID, FeedName, State
from daemon.web.lists import PAGE
from tests.integration.web.test_alerts import ON
from tests.integration.web.test_callbacks import URL, callback
from tests.support.calls import record_id
from tests.support.look import NOW, Look, Shown, holder, looking
from tests.support.pseudo import Pseudo, untranslated

__all__ = ["holder"]

ALL: dict[str, Any] = ON | {
    "callback_url": URL,
    "telegra_token": "t" * 32,
    "api_listen": "127.0.0.1:0",
    "api_token": "t" * 32,
    "log_personal_data": True,
    "click_to_dial_url": URL,
}
"""Settings with which the page has all of its parts."""
DATA = (
    "callstatsd Salesforce Europe Berlin statistics callbacks late CallerID acd tmp {time}",
    *State,
    *FeedName,
)
"""Words that are the same in each language."""
NOWHERE = "postgresql://127.0.0.1:1/acd"
PATHS = (
    *("/", "/live", "/?q=1", "/?q=20", "/?q=callback-73002", "/?q=99", "/?q=late"),
    *(f"/?q={record_id(2)}", f"/?q={record_id(99)}"),
    *(f"/lines?state={state}" for state in State),
    *("/lines", "/lines?state=pending&day=1999-01-01", "/lines?state=rejected&after=1-0-0-0"),
    "/lines?state=skipped&feed=statistics&after=8-0-0-0",
    *("/acts", "/acts?after=2", "/acts?after=0"),
)


def visible(shown: Shown) -> str:
    """What people read or hear, without commands."""
    told = re.findall(r'(?:aria-label|data-label|data-text|data-headline)="([^"]*)"', shown.html)
    without = Shown(shown.status, {}, re.sub(r"<code.*?</code>", "", shown.html))
    return f"{without.text} {' '.join(told)}"


MANY = """
INSERT INTO line (call_id, group_id, leg_id, code_id, ordinal, lane, call_ended, backfill, state,
                  settled_at, record)
SELECT n / 1000, 0, 0, n, n, n::text, now(), false, $1::text,
       CASE WHEN $1 <> 'pending' THEN now() - n % 10 * interval '30 min' END, '{"CallerID":null}'
FROM generate_series($2::integer, $2 + 300) AS n
"""
STREAKS = """
INSERT INTO streak (since, until)
SELECT now() - n * interval '1 h' - interval '1 min', now() - n * interval '1 h'
FROM generate_series(0, 4) AS n
"""


async def fill(look: Look) -> None:
    """Lines of every state of both feeds, many of some, streaks and commands."""
    await look.beat()
    await look.db.execute("UPDATE feed SET watermark = now()")
    for number, state in enumerate(State, 1):
        await look.line(number, state, last_error=NO_ID if state is State.SKIPPED else "late")
        await callback(look, 73000 + number, state, answer="late", record='{"CallerID":null}')
    await look.db.execute(MANY, State.PENDING, 20_000)
    await look.db.execute(MANY, State.REJECTED, 21_000)
    await look.db.execute(STREAKS)
    store = OperatorStore(look.ledger.database)
    for _ in range(PAGE + 1):
        await store.begin(Act(ActKind.DISCARD, "acd", (State.PENDING,)))


async def test_all_that_the_page_shows_is_translated(
    dsn: str, db: asyncpg.Connection, holder: None
) -> None:
    texts = Pseudo()
    show = partial(looking, dsn, db, choose_language=lambda _: texts.language)

    async def read(look: Look, *paths: str) -> None:
        for path in paths:
            assert untranslated(visible(await look.get(path)), *DATA) == set(), path

    async with show() as look:
        await read(look, "/", "/lines?state=pending", "/acts")
        await look.line(9, State.PENDING, backfill=True)
    async with show() as look:
        await read(look, "/")
        await fill(look)
    async with show(**ALL) as look:
        await read(look, *PATHS)
    async with show(ledger_dsn=NOWHERE) as look:
        await read(look, "/", "/acts")
    # These two are of moments in which the ledger is slow, or away again.
    assert texts.unsaid("daemon/web/templates/") == {
        "Lines are still being counted.",
        "What follows is from {time}.",
    }


@pytest.fixture
async def look(dsn: str, db: asyncpg.Connection, holder: None) -> AsyncIterator[Look]:
    async with looking(dsn, db) as look:
        await look.beat()
        yield look


async def test_each_visitor_has_the_page_in_the_language_of_the_browser(look: Look) -> None:
    await look.line(1, State.REJECTED, last_error="late")
    wanted = ["de-AT,de;q=0.9,en;q=0.8", "en-GB", "fr", "", "de"] * 4
    pages = await asyncio.gather(
        *(look.get("/?q=1", **{"Accept-Language": header}) for header in wanted)
    )
    for header, shown in zip(wanted, pages, strict=True):
        code, heading = ("de", "Anruf 1") if header.startswith("de") else ("en", "Call 1")
        assert f'<html lang="{code}">' in shown.html
        assert f'<h2 id="found-heading">{heading}</h2>' in shown.html
        assert ("Zahlen" in shown.text) is (code == "de")
        assert shown.headers["Content-Language"] == code
        assert shown.headers["Vary"] == "Accept-Language"
        assert shown.headers["Cache-Control"] == "no-store"
        assert "callstatsd requeue --state rejected --call-id 1" in shown.text


async def test_what_callstatsd_itself_wrote_of_a_skipped_line_is_translated(look: Look) -> None:
    store = OperatorStore(look.ledger.database)
    await look.line(1, State.REJECTED)
    (chosen,) = [lines async for lines in store.choose(LineFilter((State.REJECTED,)))]
    await store.discard(chosen, await store.begin(Act(ActKind.DISCARD, "acd", (State.REJECTED,))))
    await look.line(2, State.SKIPPED, last_error=NO_ID)
    await look.line(3, State.SKIPPED, last_error=KEPT_OUT.format(setting="CALLSTATSD_X"))
    listed = "/lines?state=skipped"
    german = (await look.get(listed, **{"Accept-Language": "de"})).text
    english = (await look.get(listed)).text
    for said, meant in (
        ("discarded by operator", "von einem Administrator zurückgezogen"),
        (NO_ID, "keine Salesforce-ID in UserData"),
        ("kept out by CALLSTATSD_X", "ausgeschlossen durch CALLSTATSD_X"),
    ):
        assert (said in english, said in german, meant in german) == (True, False, True)


async def test_german_has_its_own_numbers_times_as_ever_and_no_english_error(look: Look) -> None:
    await look.line(1, State.REJECTED)
    await look.db.execute(
        "INSERT INTO line (call_id, group_id, leg_id, code_id, ordinal, lane, call_ended, backfill,"
        " state, settled_at, record) SELECT 2, 0, n, 0, n, '2', $1, false, 'delivered', now(), '{}'"
        " FROM generate_series(1, 1234) AS n",
        NOW,
    )
    german = {"Accept-Language": "de"}
    assert "Zugestellt in 24 Stunden 1.234" in (await look.get("/", **german)).text
    assert "Delivered in 24 hours 1,234" in (await look.get("/")).text
    listed = await look.get("/lines?state=delivered", **german)
    assert re.search(r"2-0-\d+-0 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d ", listed.text)
    refused = await look.get("/lines?state=lost", **german)
    assert refused.status == 400
    assert "state=lost gibt es nicht: Möglich sind pending, delivered" in refused.text
    assert "nur Ziffern" in (await look.get("/?q=%3F", **german)).text
    # What programs read has no language.
    for path in ("/page.css", "/metrics", "/healthz"):
        shown = await look.get(path, **german)
        assert "Content-Language" not in shown.headers
        assert shown.html == (await look.get(path)).html or path == "/metrics"
