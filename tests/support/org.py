"""A stand-in for an org and what a client of it sends; used by the tests of the client."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import aiohttp

from daemon.delivery.outcome import Outcome, classify
from daemon.demo import grants
from daemon.demo.record_ids import ids
from daemon.demo.standin import TOKEN_PATH, WRITE_PATH, Reply, StandIn
from daemon.lines import LineKey, PauseReason, PendingLine
from daemon.salesforce.client import EndpointUrl, Salesforce
from daemon.salesforce.exchange import MakeExchange
from daemon.salesforce.oauth import (
    ClientCredentials,
    Grant,
    OAuthTokens,
    Tokens,
)
from daemon.salesforce.responses import NoResponse, Response, TokenFailure
from tests.support import standin_client

KEY = standin_client.LINE_KEY
SECRET = "s3cr3t-Of-Ours"
CREDENTIALS = ClientCredentials(grants.CLIENT_ID, grants.CLIENT_SECRET)


def record(number: int = 1) -> bytes:
    """A right record of a call of its own, for a Salesforce record of its own."""
    fields = standin_client.LINE | {
        "SalesForceID": ids(number)[0],
        "jtelStatisticsPartAID": number,
    }
    return json.dumps(fields, ensure_ascii=False).encode()


@dataclass
class Org:
    """A stand-in, and how to reach it."""

    standin: StandIn
    url: str
    session: aiohttp.ClientSession
    make_exchange: MakeExchange
    token_forms: list[dict[str, str]] = field(default_factory=list)

    def tokens(self, grant: Grant = CREDENTIALS) -> OAuthTokens:
        return OAuthTokens(self.session, self.url + TOKEN_PATH, grant)

    def salesforce(self, grant: Grant = CREDENTIALS) -> Salesforce:
        return self.client(EndpointUrl(WRITE_PATH), self.tokens(grant))

    def client(self, endpoint: EndpointUrl, tokens: Tokens, **given: Any) -> Salesforce:
        """A client of another endpoint, or with other tokens."""
        return Salesforce(self.session, endpoint, tokens, exchange=self.make_exchange, **given)

    def answer_tokens(self, *replies: Reply | None) -> None:
        """Answer token requests with these in turn, the last for ever; note their forms."""

        def rule(form: Mapping[str, str]) -> Reply | None:
            self.token_forms.append(dict(form))
            return replies[min(len(self.token_forms), len(replies)) - 1] if replies else None

        self.standin.token_rule = rule

    def answer(self, *replies: Reply | None) -> None:
        """Answer records with these in turn, the last for ever."""
        self.standin.rule = lambda incoming: replies[min(incoming.number, len(replies)) - 1]


LINE = PendingLine(
    key=LineKey(1201, 2202, 3203, 4201),
    generation=1,
    backfill=False,
    call_ended=datetime(2026, 11, 20, 8, 0, tzinfo=UTC),
    ordinal=1,
    lane="",
    salesforce_id=None,
    record="{}",
    attempts=0,
    tries=0,
    lane_tries=0,
)


def not_sent(answer: Response | NoResponse | TokenFailure) -> bool:
    """Whether it is certain that the record never left, for want of a token."""
    return isinstance(answer, TokenFailure) and answer.status is None


def classified(answer: Response | NoResponse | TokenFailure) -> PauseReason | Outcome:
    outcome = classify(answer)
    return getattr(outcome, "reason", outcome)


class PostTo(Protocol):
    """Posts one record to an address, with a session of its own."""

    async def __call__(
        self, url: str, *, within: float = 5.0, bearer: str | None = None
    ) -> Response | NoResponse | TokenFailure: ...


AnswerTo = Callable[[bytes], Awaitable[Response | NoResponse | TokenFailure]]
"""What the client makes of a server's answer."""
