"""An org to post to, by one way or another."""

from collections.abc import AsyncIterator

import pytest

from daemon.demo.standin import StandIn, serve
from daemon.salesforce.client import EndpointUrl, Salesforce, open_session
from daemon.salesforce.exchange import MakeExchange, ThroughSession, exchange
from daemon.salesforce.oauth import FixedToken
from daemon.salesforce.responses import NoResponse, Response, TokenFailure
from tests.support import ways
from tests.support.org import KEY, AnswerTo, Org, PostTo
from tests.support.raw import Recorder, raw
from tests.support.wire import Run


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of modules with EACH_WAY with each way that requests may go."""
    if getattr(metafunc.module, "EACH_WAY", False) and "make_exchange" in metafunc.fixturenames:
        metafunc.parametrize("make_exchange", [exchange, ThroughSession], ids=["direct", "session"])


@pytest.fixture
def make_exchange() -> MakeExchange:
    """The way that requests go."""
    return exchange


@pytest.fixture
async def org(make_exchange: MakeExchange) -> AsyncIterator[Org]:
    """An org of the test's own."""
    standin = StandIn()
    async with serve(standin) as url, open_session("1.2.3", 5.0) as session:
        yield Org(standin, url, session, make_exchange)


@pytest.fixture
def post_to(make_exchange: MakeExchange) -> PostTo:
    """Post one record to an address."""

    async def post(
        url: str, *, within: float = 5.0, bearer: str | None = None
    ) -> Response | NoResponse | TokenFailure:
        async with open_session("1.2.3", within) as session:
            tokens = FixedToken(bearer)
            client = Salesforce(session, EndpointUrl(url), tokens, exchange=make_exchange)
            return await client.post(KEY, b"{}")

    return post


@pytest.fixture
def answer_to(post_to: PostTo) -> AnswerTo:
    """Post one record to a server that answers so."""

    async def post(reply: bytes) -> Response | NoResponse | TokenFailure:
        async with raw(Recorder(reply)) as port:
            return await post_to(f"http://127.0.0.1:{port}/")

    return post


@pytest.fixture(params=ways.WAYS.values(), ids=list(ways.WAYS))
def run(request: pytest.FixtureRequest) -> Run:
    return Run(*request.param)
