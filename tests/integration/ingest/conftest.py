"""Source and ledger of a test's own, with a clock that only the test moves."""

from collections.abc import AsyncIterator

import pytest

from daemon.lines import FeedName
from tests.support.site import Site, opened


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
