"""A question over real HTTP: what is sent, what comes back, and in which time."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from daemon.demo import grants
from daemon.demo.dial_check import SERVICE
from daemon.demo.record_ids import ids
from daemon.demo.standin import (
    DIAL_PATH,
    TOKEN_PATH,
    WRITE_PATH,
    Reply,
    StandIn,
    platform_error,
    serve,
)
from daemon.salesforce.click_to_dial import (
    Allowed,
    Decision,
    Question,
    Reason,
    Refused,
    Undecided,
    classify,
)
from daemon.salesforce.client import EndpointUrl, open_session
from daemon.salesforce.dial_client import DialClient
from daemon.salesforce.oauth import ClientCredentials, FixedToken, OAuthTokens, Tokens
from tests.support.raw import free_port, mute, raw

RECORD = ids(1)[1]
AGENT = "Jörg + Söhne"
QUESTION = Question(RECORD, "+492212601599", AGENT)


@asynccontextmanager
async def asking(
    url: str, tokens_url: str | None = None, seconds: float = 3.0, path: str = DIAL_PATH
) -> AsyncIterator[DialClient]:
    async with open_session("1", 60.0) as session:
        tokens: Tokens = FixedToken("t")
        if tokens_url is not None:
            credentials = ClientCredentials(grants.CLIENT_ID, grants.CLIENT_SECRET)
            tokens = OAuthTokens(session, f"{tokens_url}{TOKEN_PATH}", credentials)
            url = ""
        yield DialClient(session, EndpointUrl(f"{url}{path}"), tokens, seconds)


async def decide(standin: StandIn, question: Question = QUESTION, seconds: float = 3.0) -> Decision:
    async with serve(standin) as url, asking(url, url, seconds) as client:
        return classify(await client.ask(question))


async def test_a_question_is_as_the_contract_has_it_and_is_allowed() -> None:
    standin = StandIn()
    decision = await decide(standin)
    assert decision == Allowed(SERVICE["ServiceNumber"], SERVICE["ServiceNumberName"])
    assert standin.violations == []
    assert standin.dials == [
        {"SalesForceID": RECORD, "CallerID": "+492212601599", "AgentUID": AGENT}
    ]


@pytest.mark.parametrize(("ending", "status"), [("404", 404), ("409", 403), ("400", 400)])
async def test_the_org_refuses_by_record(ending: str, status: int) -> None:
    standin = StandIn()
    decision = await decide(standin, Question(ids(1, ending)[1], "221", AGENT))
    assert isinstance(decision, Refused)
    assert decision.status == status
    assert standin.violations == []


async def test_a_query_of_the_address_stays_in_front_and_the_head_is_exact() -> None:
    heads: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{"ServiceNumber":"1"}')

    async with (
        raw(answer) as port,
        asking(f"http://127.0.0.1:{port}", path="/ask?tenant=a%20b") as client,
    ):
        assert classify(await client.ask(QUESTION)) == Allowed("1", None)
    [head] = heads
    first, *others = head.strip().splitlines()
    assert first == (
        f"GET /ask?tenant=a%20b&SalesForceID={RECORD}&CallerID=%2B492212601599"
        "&AgentUID=J%C3%B6rg%20%2B%20S%C3%B6hne HTTP/1.1"
    )
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in others)}
    assert headers["accept"] == "application/json"
    assert headers["user-agent"] == "callstatsd/1"
    assert headers["authorization"] == "Bearer t"
    assert not {"idempotency-key", "content-type", "content-length"} & set(headers)


async def test_a_refused_token_is_renewed_once() -> None:
    standin = StandIn()
    async with serve(standin) as url, asking(url, url) as client:
        await client.ask(QUESTION)
        standin.expire_tokens()
        assert isinstance(classify(await client.ask(QUESTION)), Allowed)
    assert standin.tokens_issued == 2


async def test_a_token_that_stays_refused_is_undecided() -> None:
    standin = StandIn(dial_rule=lambda _: Reply(401, platform_error("INVALID_SESSION_ID", "no")))
    decision = await decide(standin)
    assert isinstance(decision, Undecided)
    assert (decision.reason, decision.may_be_refusal) == (Reason.UNAUTHORIZED, False)
    assert (standin.tokens_issued, len(standin.dials)) == (2, 2)


async def test_a_redirect_renews_the_token_and_is_never_followed() -> None:
    standin = StandIn(dial_rule=lambda _: Reply(302, headers={"Location": WRITE_PATH}))
    decision = await decide(standin)
    assert isinstance(decision, Undecided)
    assert (decision.reason, decision.may_be_refusal) == (Reason.CONFIGURATION, True)
    assert (standin.tokens_issued, len(standin.dials), standin.received) == (2, 2, 0)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nhalf",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
        b"HTTP/1.1 400 Bad Request\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnone",
        b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 9\r\n\r\nhalf",
    ],
)
@pytest.mark.parametrize("hangs", [False, True], ids=["cut", "hangs"])
async def test_a_refusal_whose_body_does_not_come_is_no_permission(
    answer: bytes, *, hangs: bool
) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        if hangs:
            await reader.read()

    async with (
        raw(handler) as port,
        asking(f"http://127.0.0.1:{port}", seconds=0.2) as client,
    ):
        decision = classify(await client.ask(QUESTION))
    assert isinstance(decision, Undecided)
    assert decision.may_be_refusal
    assert decision.status == int(answer.split()[1])


async def test_no_token_is_undecided() -> None:
    refusal = {"error": "invalid_client", "error_description": "invalid client credentials"}
    standin = StandIn(token_rule=lambda _: Reply(400, refusal))
    decision = await decide(standin)
    assert isinstance(decision, Undecided)
    assert decision.reason is Reason.UNAUTHORIZED
    assert standin.dials == []


async def test_nobody_listens() -> None:
    async with asking(f"http://127.0.0.1:{free_port()}") as client:
        decision = classify(await client.ask(QUESTION))
    assert isinstance(decision, Undecided)
    assert decision.reason is Reason.UNAVAILABLE


async def test_a_cut_answer_is_unanswered_and_the_question_not_repeated() -> None:
    """Each question is one API call of the org's day."""
    standin = StandIn(dial_rule=lambda _: Reply(cut="before"))
    decision = await decide(standin)
    assert isinstance(decision, Undecided)
    assert decision.reason is Reason.UNANSWERED
    assert len(standin.dials) == 1


@pytest.mark.parametrize("slow", ["the token", "the answer"])
async def test_a_question_takes_no_longer_than_its_time(slow: str) -> None:
    late = Reply(delay=20)
    standin = StandIn(
        token_rule=(lambda _: late) if slow == "the token" else None,
        dial_rule=(lambda _: late) if slow == "the answer" else None,
    )
    began = time.monotonic()
    decision = await decide(standin, seconds=0.3)
    assert isinstance(decision, Undecided)
    assert (decision.reason, decision.may_be_refusal) == (Reason.UNANSWERED, False)
    assert 0.3 <= time.monotonic() - began < 2


async def test_a_silent_server_is_unanswered() -> None:
    async with (
        raw(mute) as port,
        asking(f"http://127.0.0.1:{port}", seconds=0.3) as client,
    ):
        decision = classify(await client.ask(QUESTION))
    assert isinstance(decision, Undecided)
    assert decision.reason is Reason.UNANSWERED


async def test_no_more_than_64_kib_of_an_answer_are_read() -> None:
    body = '{"ServiceNumber": "1"}' + " " * 65536 + "no JSON any more"
    assert await decide(StandIn(dial_rule=lambda _: Reply(200, body))) == Allowed("1", None)


async def test_the_log_has_neither_query_nor_number() -> None:
    standin = StandIn()
    with capture_logs() as events:
        await decide(standin)
    [done] = [one for one in events if one["event"] == "request.done" and one["method"] == "GET"]
    assert done["path"] == DIAL_PATH
    assert "2212601599" not in repr(events)
    assert AGENT not in repr(events)
