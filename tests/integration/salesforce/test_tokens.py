"""Where tokens come from, and what happens where none comes."""

import asyncio
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from daemon.delivery.backoff import Backoff
from daemon.delivery.outcome import PauseSender, classify
from daemon.delivery.settlement import settle
from daemon.demo.standin import WRITE_PATH, Reply, platform_error
from daemon.lines import PauseReason
from daemon.salesforce.client import EndpointUrl, Salesforce, open_session
from daemon.salesforce.oauth import OAuthTokens, Token, TokenError
from daemon.salesforce.responses import Response, TokenFailure
from tests.support.daemon_process import PATIENCE
from tests.support.org import CREDENTIALS, KEY, LINE, SECRET, Org, classified, not_sent, record
from tests.support.raw import Recorder, free_port, mute, raw


async def test_requests_at_once_share_one_first_token(org: Org) -> None:
    salesforce = org.salesforce()
    answers = await asyncio.gather(
        *(salesforce.post(f"{number}-0-0-0", record(number)) for number in range(1, 21))
    )
    assert {answer.status for answer in answers if isinstance(answer, Response)} == {200}
    assert org.standin.tokens_issued == 1


async def test_a_refused_token_is_renewed_once_for_all_and_each_request_tried_once_more(
    org: Org,
) -> None:
    salesforce = org.salesforce()
    await salesforce.post("1-0-0-0", record())
    org.standin.expire_tokens()
    with capture_logs() as logs:
        answers = await asyncio.gather(
            *(salesforce.post(f"{number}-0-0-0", record(number)) for number in range(2, 22))
        )
    assert len(answers) == 20
    assert all(isinstance(answer, Response) and answer.status == 200 for answer in answers)
    assert org.standin.by_status == {200: 21, 401: 20}
    assert org.standin.tokens_issued == 2
    assert org.standin.violations == []
    assert [event for event in logs if event["log_level"] != "debug"] == [
        {"event": "token.refreshed", "log_level": "info", "instance_url": org.url},
    ]


async def test_a_token_that_is_refused_again_is_not_renewed_again(org: Org) -> None:
    org.answer(Reply(401, platform_error("INVALID_SESSION_ID", "Session expired")))
    salesforce = org.salesforce()
    answers = await asyncio.gather(*(salesforce.post(f"{n}-0-0-0", record(n)) for n in (1, 2, 3)))
    assert [classified(answer) for answer in answers] == [PauseReason.UNAUTHORIZED] * 3
    assert (org.standin.received, org.standin.tokens_issued) == (6, 2)


async def test_the_second_try_has_the_same_key_and_body_and_the_new_token(org: Org) -> None:
    org.answer(Reply(401, b""), None)
    answer = await org.salesforce().post("1-0-0-0", record())
    assert isinstance(answer, Response)
    assert answer.status == 200
    first, second = org.standin.requests
    assert (first.key, first.body) == (second.key, second.body)
    assert first.headers["Authorization"] != second.headers["Authorization"]


async def test_only_a_refused_token_is_renewed(org: Org) -> None:
    salesforce = org.salesforce()
    for number, status in enumerate((400, 403, 404, 405, 409, 423, 500, 503), start=1):
        org.answer(Reply(status, b""))
        await salesforce.post(f"{number}-0-0-0", record(number))
    assert org.standin.tokens_issued == 1


async def test_requests_at_once_share_a_renewal_that_fails_as_well(org: Org) -> None:
    salesforce = org.salesforce()
    await salesforce.post("1-0-0-0", record())
    org.standin.expire_tokens()
    refusal = {"error": "invalid_grant", "error_description": "authentication failure"}
    org.answer_tokens(Reply(400, refusal))
    await asyncio.gather(*(salesforce.post(f"{n}-0-0-0", record(n)) for n in range(2, 12)))
    assert len(org.token_forms) == 1


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refused_login_pauses_the_sender_as_unauthorized(org: Org, status: int) -> None:
    org.answer_tokens(Reply(status, {"error": "invalid_client"}))
    assert classified(await org.salesforce().post(KEY, record())) is PauseReason.UNAUTHORIZED
    assert org.standin.received == 0


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_a_token_endpoint_that_is_down_pauses_the_sender_as_unavailable(
    org: Org, status: int
) -> None:
    org.answer_tokens(Reply(status, {"error": "server_error"}))
    assert classified(await org.salesforce().post(KEY, record())) is PauseReason.UNAVAILABLE
    assert org.standin.received == 0


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_a_token_endpoint_that_is_down_with_a_page_in_html_is_unavailable_too(
    org: Org, status: int
) -> None:
    org.answer_tokens(Reply(status, "<html>down for maintenance</html>"))
    assert classified(await org.salesforce().post(KEY, record())) is PauseReason.UNAVAILABLE


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [
        (429, "7", 7.0),
        (503, "7", 7.0),
        (429, None, None),
        (503, "soon", None),
        (400, "7", None),
        (401, "7", None),
    ],
)
async def test_retry_after_of_a_token_endpoint_counts_where_it_asks_to_come_back(
    org: Org, status: int, header: str | None, seconds: float | None
) -> None:
    headers = {} if header is None else {"Retry-After": header}
    org.answer_tokens(Reply(status, {"error": "busy"}, headers))
    answer = await org.salesforce().post(KEY, record())
    assert isinstance(answer, TokenFailure)
    assert answer.retry_after == seconds
    outcome = classify(answer)
    assert isinstance(outcome, PauseSender)
    assert outcome.retry_after == seconds
    assert outcome.reason is (
        PauseReason.UNAVAILABLE if status in {429, 503} else PauseReason.UNAUTHORIZED
    )
    assert not outcome.sent


@pytest.mark.parametrize(
    ("status", "reason"), [(400, PauseReason.UNAUTHORIZED), (503, PauseReason.UNAVAILABLE)]
)
@pytest.mark.parametrize("first", [401, 302])
async def test_a_line_whose_token_was_refused_was_sent_though_the_renewal_fails(
    org: Org, first: int, status: int, reason: PauseReason
) -> None:
    org.answer(Reply(first, b""))
    org.answer_tokens(None, Reply(status, {"error": "busy"}))
    answer = await org.salesforce().post("1-0-0-0", record())
    assert isinstance(answer, TokenFailure)
    assert answer.status == first
    settlement = settle(LINE, classify(answer), Backoff(1, 60), 0, 0)
    assert (settlement.sent, settlement.status) == (True, first)
    assert settlement.error == answer.error
    assert classified(answer) is reason
    assert (org.standin.received, len(org.token_forms)) == (1, 2)


async def test_a_token_endpoint_that_nobody_serves_sends_nothing(org: Org) -> None:
    tokens = OAuthTokens(org.session, f"http://127.0.0.1:{free_port()}/token", CREDENTIALS)
    answer = await org.client(EndpointUrl(WRITE_PATH), tokens).post(KEY, record())
    assert not_sent(answer)
    assert classified(answer) is PauseReason.UNAVAILABLE


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_token_request_that_is_cut_sends_nothing(org: Org, cut: Any) -> None:
    org.answer_tokens(Reply(cut=cut))
    assert not_sent(await org.salesforce().post(KEY, record()))
    assert org.standin.received == 0


async def test_a_token_request_that_times_out_sends_nothing() -> None:
    async with raw(mute) as port, open_session("1", 0.05) as session:
        tokens = OAuthTokens(session, f"http://127.0.0.1:{port}/token", CREDENTIALS)
        answer = await Salesforce(session, EndpointUrl(WRITE_PATH), tokens).post(KEY, record())
    assert not_sent(answer)


async def test_a_token_request_is_not_redirected(org: Org) -> None:
    elsewhere = Recorder()
    async with raw(elsewhere) as port:
        org.answer_tokens(Reply(302, b"", {"Location": f"http://127.0.0.1:{port}/"}))
        assert classified(await org.salesforce().post(KEY, record())) is PauseReason.UNAUTHORIZED
    assert elsewhere.connections == 0


async def test_a_token_that_comes_in_pieces_is_read_as_a_whole(org: Org) -> None:
    body = json.dumps({"access_token": SECRET, "instance_url": org.url}).encode()

    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        for piece in (body[:9], body[9:30], body[30:]):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)

    async with raw(slowly) as port:
        tokens = OAuthTokens(org.session, f"http://127.0.0.1:{port}/token", CREDENTIALS)
        assert await tokens.token() == Token(f"Bearer {SECRET}", org.url)


async def test_one_who_gives_up_waiting_for_a_token_takes_it_from_nobody_else(org: Org) -> None:
    hold = asyncio.Event()
    org.answer_tokens(Reply(hold=hold))
    tokens = org.tokens()
    first, second = (asyncio.create_task(tokens.token()) for _ in range(2))
    async with asyncio.timeout(PATIENCE):
        while not org.token_forms:  # both wait for it by then
            await asyncio.sleep(0.01)
    first.cancel()
    hold.set()
    assert (await second).instance_url == org.url
    assert len(org.token_forms) == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_after_a_failed_login_the_next_request_tries_again(org: Org) -> None:
    org.answer_tokens(Reply(503, {"error": "server_error"}), None)
    salesforce = org.salesforce()
    assert classified(await salesforce.post("1-0-0-0", record())) is PauseReason.UNAVAILABLE
    answer = await salesforce.post("1-0-0-0", record())
    assert isinstance(answer, Response)
    assert answer.status == 200


@pytest.mark.parametrize("status", [400, 401, 500, 503])
async def test_a_line_that_never_left_for_want_of_a_token_counts_no_attempt(
    org: Org, status: int
) -> None:
    org.answer_tokens(Reply(status, {"error": "invalid_client"}))
    answer = await org.salesforce().post(KEY, record())
    assert org.standin.received == 0
    settlement = settle(LINE, classify(answer), Backoff(1, 60), 0, 0)
    assert (settlement.sent, settlement.status) == (False, None)


async def test_the_sender_is_told_why_there_is_no_token(org: Org) -> None:
    org.answer_tokens(Reply(400, {"error": "invalid_client_id"}))
    outcome = classify(await org.salesforce().post(KEY, record()))
    assert outcome == PauseSender(
        PauseReason.UNAUTHORIZED,
        None,
        None,
        "no token: the token endpoint answered 400 invalid_client_id; check CALLSTATSD_CLIENT_ID",
    )


@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        "[]",
        '"token"',
        "{}",
        "not json",
        b"\xff\xfe",
        '{"access_token": "x"}',
        '{"instance_url": "https://a"}',
        '{"access_token": "x", "instance_url": null}',
        '{"access_token": "x", "instance_url": 1}',
    ],
)
async def test_an_answer_without_a_token_pauses_and_says_where_to_look(body: str | bytes) -> None:
    data = body.encode() if isinstance(body, str) else body
    reply = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
    async with raw(Recorder(reply)) as port, open_session("1", 5.0) as session:
        tokens = OAuthTokens(session, f"http://127.0.0.1:{port}/token", CREDENTIALS)
        with pytest.raises(TokenError, match=r"no usable .*; check CALLSTATSD_TOKEN_URL") as caught:
            await tokens.token()
    assert classified(caught.value.answer) is PauseReason.UNAUTHORIZED


@pytest.mark.parametrize(
    ("charset", "body"),
    [
        ("utf-8", "[" * 100_000),
        ("hex", "{}"),
        ("utf-8", '{"access_token": null, "instance_url": "https://a"}'),
    ],
    ids=["deep", "charset", "null"],
)
async def test_no_answer_of_the_token_endpoint_ends_the_daemon(charset: str, body: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset={charset}\r\n"
    reply = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    async with raw(Recorder(reply)) as port, open_session("1", 5.0) as session:
        tokens = OAuthTokens(session, f"http://127.0.0.1:{port}/token", CREDENTIALS)
        with pytest.raises(TokenError):
            await tokens.token()
