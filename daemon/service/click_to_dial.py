"""Click to dial of a running instance: its listener, beside the sender."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from daemon import logs
from daemon.ingest.reader import SourceReader
from daemon.ingest.service_numbers import ServiceNumberSource
from daemon.salesforce.client import EndpointUrl, Session
from daemon.salesforce.dial_client import DialClient
from daemon.salesforce.oauth import Tokens
from daemon.settings.model import Settings
from daemon.web.api import Api, malformed
from daemon.web.dialling import Dialler
from daemon.web.listener import PortOptions, listening

RETRY_EVERY = 10.0
"""Seconds between two tries to listen at an address that is taken."""
ANSWERS_WITHIN = 0.5
"""Seconds after the time of a question within which it is answered."""


@asynccontextmanager
async def open_dialler(
    settings: Settings, source: SourceReader, session: Session, tokens: Tokens
) -> AsyncIterator[Dialler]:
    """Open what answers questions, over the sessions of the source."""
    dialler = Dialler(
        DialClient(
            session,
            EndpointUrl(settings.click_to_dial_url),
            tokens,
            settings.click_to_dial_timeout,
        ),
        service_numbers(settings, source),
        settings.click_to_dial_timeout,
        settings.click_to_dial_fallback,
    )
    try:
        yield dialler
    finally:
        dialler.close()


def service_numbers(settings: Settings, source: SourceReader) -> ServiceNumberSource:
    """Return what reads service numbers, over the sessions of the source."""
    return ServiceNumberSource(source.database, settings.source_schemas, settings.clients_id)


@asynccontextmanager
async def serving_api(
    settings: Settings,
    source: SourceReader,
    session: Session,
    tokens: Tokens,
    stop: asyncio.Event,
) -> AsyncIterator[None]:
    """Serve the API until `stop` is set; the block's end waits for answers under way."""
    if settings.api_listen is None or not settings.click_to_dial_url:
        yield
        return
    # In a task of its own, because the listener closes at once, and the block after the sender.
    serving = asyncio.create_task(_serve(settings, source, session, tokens, stop))
    try:
        yield
        await serving
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def _serve(
    settings: Settings,
    source: SourceReader,
    session: Session,
    tokens: Tokens,
    stop: asyncio.Event,
) -> None:
    async with (
        open_dialler(settings, source, session, tokens) as dialler,
        listening(
            Api(dialler, settings.api_token.get_secret_value()).answer,
            settings.api_listen,
            PortOptions(
                shutdown_timeout=settings.click_to_dial_timeout + ANSWERS_WITHIN,
                retry_every=RETRY_EVERY,
                unavailable=logs.API_UNAVAILABLE,
                malformed=malformed,
            ),
        ),
    ):
        await stop.wait()
