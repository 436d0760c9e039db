"""A request starts only while the lease permits it, asked when its connection is there."""

import asyncio

from daemon.demo.grants import CLIENT_ID, CLIENT_SECRET
from daemon.demo.standin import TOKEN_PATH, WRITE_PATH, StandIn, serve
from daemon.salesforce.client import EndpointUrl, Salesforce, open_session
from daemon.salesforce.exchange import MakeExchange
from daemon.salesforce.oauth import ClientCredentials, FixedToken, OAuthTokens
from daemon.salesforce.responses import Response
from tests.support.daemon_process import PATIENCE
from tests.support.org import KEY, record
from tests.support.raw import OK, Recorder, raw

EACH_WAY = True


class Permit:
    """A lease as the endpoint sees it; `asked` once somebody waits for it."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.given = asyncio.Event()

    @property
    def held(self) -> bool:
        return self.given.is_set()

    async def until_held(self) -> None:
        self.asked.set()
        await self.given.wait()


async def test_what_may_not_start_when_its_connection_is_there_is_sent_later_on_the_same(
    make_exchange: MakeExchange,
) -> None:
    server = Recorder(OK)
    permit = Permit()
    async with raw(server) as port, open_session("1", 5.0) as session:
        endpoint = EndpointUrl(f"http://127.0.0.1:{port}/")
        salesforce = Salesforce(session, endpoint, FixedToken(None), permit, exchange=make_exchange)
        for times in (1, 2):  # on a new connection, and on one that was kept
            posting = asyncio.create_task(salesforce.post(KEY, record()))
            async with asyncio.timeout(PATIENCE):
                await permit.asked.wait()
                assert (server.connections, len(server.heads)) == (1, times - 1)
                permit.given.set()
                answer = await posting
            assert isinstance(answer, Response)
            assert answer.status == 200
            assert (server.connections, len(server.bodies)) == (1, times)
            permit.asked.clear()
            permit.given.clear()


async def test_a_request_that_waits_for_its_permit_can_be_cancelled_and_was_not_sent(
    make_exchange: MakeExchange,
) -> None:
    server = Recorder(OK)
    permit = Permit()
    async with raw(server) as port, open_session("1", 5.0) as session:
        endpoint = EndpointUrl(f"http://127.0.0.1:{port}/")
        salesforce = Salesforce(session, endpoint, FixedToken(None), permit, exchange=make_exchange)
        posting = asyncio.create_task(salesforce.post(KEY, record()))
        async with asyncio.timeout(PATIENCE):
            await permit.asked.wait()
            assert salesforce.unsent(KEY)
            posting.cancel()
            await asyncio.wait({posting})
        assert posting.cancelled()
        assert server.heads == []


async def test_a_token_needs_no_permit() -> None:
    standin = StandIn()
    permit = Permit()
    async with serve(standin) as url, open_session("1", 5.0) as session:
        tokens = OAuthTokens(session, url + TOKEN_PATH, ClientCredentials(CLIENT_ID, CLIENT_SECRET))
        salesforce = Salesforce(session, EndpointUrl(WRITE_PATH), tokens, permit)
        posting = asyncio.create_task(salesforce.post(KEY, record()))
        async with asyncio.timeout(PATIENCE):
            await permit.asked.wait()
            assert (standin.tokens_issued, standin.received) == (1, 0)
            permit.given.set()
            await posting
        assert standin.received == 1
