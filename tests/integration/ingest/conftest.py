"""Source and ledger of a test's own, with a clock that only the test moves."""

from collections.abc import AsyncIterator

import pytest

from daemon.ingest.intake import Intake
from daemon.ingest.reader import PAGE
from daemon.ingest.source import Source
from daemon.lines import FeedName
from tests.support.site import Site, opened
from tests.support.source_reads import reading


@pytest.fixture
def feed() -> FeedName:
    """Whose progress a test reads."""
    return FeedName.STATISTICS


@pytest.fixture
async def site(
    request: pytest.FixtureRequest, dsn: str, server: str, template: str, feed: FeedName
) -> AsyncIterator[Site]:
    async with opened(dsn, server, template, request) as site:
        site.feed = feed
        yield site


@pytest.fixture
async def source(request: pytest.FixtureRequest, dsn: str) -> AsyncIterator[Source]:
    """A source that is read in pages of 2000 rows, or of as many as a test asks for."""
    async with reading(dsn, page=getattr(request, "param", PAGE)) as source:
        yield source


@pytest.fixture
async def intake(site: Site) -> AsyncIterator[Intake]:
    async with site.taking() as (_, _, intake):
        yield intake
