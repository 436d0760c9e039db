"""Opens what the settings name: both databases, Salesforce with its tokens; nothing is sent."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import assert_never

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential

from daemon import __version__, logs
from daemon.acd.events import TIMEOUT as ACD_TIMEOUT
from daemon.acd.events import AcdEvents
from daemon.database.errors import Place
from daemon.errors import UnreachableError, UnusableError
from daemon.ingest.callbacks import CallbackFeed, CallbackOptions
from daemon.ingest.feed import Feed
from daemon.ingest.filters import Filters
from daemon.ingest.source import Source, open_source
from daemon.ingest.statistics import RecordOptions, StatisticsFeed
from daemon.ledger.binding import Binding
from daemon.ledger.store import Ledger, open_ledger
from daemon.lines import FeedName
from daemon.reports.lookup import callback_rules_of, callback_source, rules_of
from daemon.salesforce.client import EndpointUrl, Salesforce, Session, open_session
from daemon.salesforce.exchange import why_not_direct
from daemon.salesforce.oauth import (
    ClientCredentials,
    FixedToken,
    Grant,
    OAuthTokens,
    Password,
    Tokens,
    jwt_bearer,
)
from daemon.salesforce.transport import Permit
from daemon.settings.model import Auth, EmptyAs, Settings
from daemon.settings.values import Direction
from daemon.tasks import run_until, run_within

_log = structlog.get_logger()

LONGEST_WAIT = 5.0
"""Seconds between two tries to reach a database that is away."""
SOURCE_ANSWERS = 2.0
"""Seconds to wait for the source's name, where the ledger alone is needed."""


@asynccontextmanager
async def open_databases(settings: Settings) -> AsyncIterator[tuple[Source, Ledger]]:
    """Open both databases; neither need be there yet."""
    async with (
        open_source(
            settings.source_dsn.get_secret_value(),
            settings.source_schemas,
            settings.source_timezone,
            settings.clients_id,
        ) as source,
        open_ledger(settings.ledger_dsn.get_secret_value(), settings.ledger_schema) as ledger,
    ):
        yield source, ledger


async def check_ledger(settings: Settings, source: Source, ledger: Ledger) -> None:
    """Raise `ConfigurationError` for a ledger of another version, client or source.

    Commands that need only the ledger work without the source: its name is not compared
    then.
    """
    await ledger.check_version()
    clock = None
    with suppress(UnusableError):
        clock = await run_within(SOURCE_ANSWERS, source.clock())
    database = clock.database if clock is not None else None
    await ledger.check_binding(Binding(settings.clients_id, database, settings.source_schemas))


async def retry_until_reachable(
    call: Callable[[], Awaitable[object]], stop: asyncio.Event, on_failure: Callable[[], None]
) -> None:
    """Call until its database can be reached, or until stop; other errors are raised."""
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(UnreachableError),
        wait=wait_exponential(multiplier=0.1, max=LONGEST_WAIT),
        before_sleep=lambda _: on_failure(),
    )
    await run_until(stop, retrying(call))


@asynccontextmanager
async def open_salesforce(
    settings: Settings, permit: Permit
) -> AsyncIterator[dict[FeedName, Salesforce]]:
    """Open the endpoint of each feed, with tokens for all.

    Raises `ConfigurationError` for an unusable key file. No request starts while the permit is not
    held.
    """
    async with open_tokens(settings) as (session, tokens):
        yield endpoints(settings, session, tokens, permit)


def endpoints(
    settings: Settings, session: Session, tokens: Tokens, permit: Permit
) -> dict[FeedName, Salesforce]:
    """Return the endpoint of each feed; no request starts while the permit is not held."""
    if (reason := why_not_direct(session)) is not None:
        _log.info(logs.REQUESTS_THROUGH_SESSION, reason=reason)
    urls = {FeedName.STATISTICS: EndpointUrl(settings.endpoint_url)}
    if settings.callback_url:
        urls[FeedName.CALLBACKS] = EndpointUrl(settings.callback_url)
    return {feed: Salesforce(session, url, tokens, permit) for feed, url in urls.items()}


@asynccontextmanager
async def open_tokens(settings: Settings) -> AsyncIterator[tuple[Session, Tokens]]:
    """Open what fetches tokens, with the connections that it shares with the endpoint."""
    async with open_session(
        __version__,
        settings.request_timeout,
        ca_file=settings.ca_file,
        environment_proxy=settings.environment_proxy,
    ) as session:
        grant = _grant(settings)
        tokens: Tokens
        if grant is None:
            bearer = settings.auth is Auth.BEARER
            tokens = FixedToken(settings.bearer_token.get_secret_value() if bearer else None)
        else:
            tokens = OAuthTokens(session, settings.token_url, grant)
        yield session, tokens


@asynccontextmanager
async def open_acd(settings: Settings) -> AsyncIterator[AcdEvents]:
    """Open the connections to the ACD's REST server; they are its own, with no other's limits."""
    async with open_session(
        __version__,
        ACD_TIMEOUT,
        ca_file=settings.ca_file,
        environment_proxy=settings.environment_proxy,
    ) as session:
        yield AcdEvents(session, settings.acd_url, settings.acd_token.get_secret_value())


def _grant(settings: Settings) -> Grant | None:
    client_id, secret = settings.client_id, settings.client_secret.get_secret_value()
    match settings.auth:
        case Auth.CLIENT_CREDENTIALS:
            return ClientCredentials(client_id, secret)
        case Auth.PASSWORD:
            password = settings.password.get_secret_value()
            token = settings.security_token.get_secret_value()
            return Password(client_id, secret, settings.username, password + token)
        case Auth.JWT_BEARER:
            key_file = settings.private_key_file or Path()
            return jwt_bearer(client_id, settings.username, key_file, settings.token_url)
        case Auth.BEARER | Auth.NONE:
            return None
        case _:
            assert_never(settings.auth)


def _filters(settings: Settings) -> Filters | None:
    """Return the filters of call statistics; None if none is set."""
    numbers, groups, direction = settings.service_numbers, settings.groups, settings.direction
    if not numbers and not groups and direction is Direction.BOTH:
        return None
    outbound = None if direction is Direction.BOTH else direction is Direction.OUTBOUND
    return Filters(numbers, groups, outbound=outbound)


def statistics_feed(settings: Settings, source: Source) -> StatisticsFeed:
    """Return the feed of call statistics, as the settings have it."""
    options = RecordOptions(
        settings.source_timezone,
        settings.empty_as is EmptyAs.STRING,
        settings.send_without_salesforce_id,
        _filters(settings),
    )
    return StatisticsFeed(source, rules_of(settings), options)


def callback_feed(settings: Settings, source: Source) -> CallbackFeed:
    """Return the feed of callback requests, as the settings have it."""
    options = CallbackOptions(settings.source_timezone, settings.empty_as is EmptyAs.STRING)
    return CallbackFeed(callback_source(settings, source), callback_rules_of(settings), options)


def feeds(settings: Settings, source: Source) -> dict[FeedName, Feed]:
    """Return the feeds that are on."""
    on: dict[FeedName, Feed] = {FeedName.STATISTICS: statistics_feed(settings, source)}
    if settings.callback_url:
        on[FeedName.CALLBACKS] = callback_feed(settings, source)
    return on


def ledger_code(settings: Settings) -> str:
    """Return a short code that all instances of a ledger share, and that is no secret."""
    place = Place("ledger", settings.ledger_dsn.get_secret_value())
    parts = (place.hosts, place.database, settings.ledger_schema)
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:12]
