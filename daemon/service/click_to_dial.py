"""Click to dial of a running instance: what answers questions, beside the sender."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from daemon.ingest.reader import SourceReader
from daemon.ingest.service_numbers import ServiceNumberSource
from daemon.salesforce.client import EndpointUrl, Session
from daemon.salesforce.dial_client import DialClient
from daemon.salesforce.oauth import Tokens
from daemon.settings.model import Settings
from daemon.web.dialling import Dialler


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
