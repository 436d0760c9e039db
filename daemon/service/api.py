"""The API listener of a running instance, and what it serves, beside the sender."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from daemon import logs
from daemon.delivery.outcome_writer import DRAIN_EXTRA
from daemon.ingest.reader import SourceReader
from daemon.salesforce.client import Session
from daemon.salesforce.oauth import Tokens
from daemon.service.click_to_dial import open_dialler
from daemon.settings.model import Settings
from daemon.telegra.receiver import ANSWERS_WITHIN as TELEGRA_ANSWERS_WITHIN
from daemon.web.api import Api, malformed
from daemon.web.listener import PER_SECOND, PortOptions, listening
from daemon.web.telegra_door import TelegraDoor

RETRY_EVERY = 10.0
"""Seconds between two tries to listen at an address that is taken."""
ANSWERS_WITHIN = 0.5
"""Seconds after the time of a question within which it is answered."""

NOTIFIED_PER_SECOND = 2000
"""New connections a second where an ACD may need one for each notification."""


@asynccontextmanager
async def serving_api(
    settings: Settings,
    source: SourceReader,
    session: Session,
    tokens: Tokens,
    telegra: TelegraDoor | None,
    stop: asyncio.Event,
) -> AsyncIterator[None]:
    """Serve the API until `stop` is set; the block's end waits for answers under way."""
    if settings.api_listen is None or not (settings.click_to_dial_url or telegra):
        yield
        return
    # In a task of its own, because the listener closes at once, and the block after the sender.
    serving = asyncio.create_task(_serve(settings, source, session, tokens, telegra, stop))
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
    telegra: TelegraDoor | None,
    stop: asyncio.Event,
) -> None:
    async with AsyncExitStack() as stack:
        dialler = None
        if settings.click_to_dial_url:
            dialler = await stack.enter_async_context(
                open_dialler(settings, source, session, tokens)
            )
        waits = [settings.click_to_dial_timeout] if dialler else []
        waits += [TELEGRA_ANSWERS_WITHIN] if telegra else []
        await stack.enter_async_context(
            listening(
                Api(dialler, settings.api_token.get_secret_value(), telegra).answer,
                settings.api_listen,
                PortOptions(
                    per_second=NOTIFIED_PER_SECOND if telegra else PER_SECOND,
                    shutdown_timeout=min(
                        max(waits) + ANSWERS_WITHIN, settings.request_timeout + DRAIN_EXTRA
                    ),
                    retry_every=RETRY_EVERY,
                    unavailable=logs.API_UNAVAILABLE,
                    malformed=malformed,
                ),
            )
        )
        await stop.wait()
