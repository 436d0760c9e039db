"""A call centre behind proxies that a test can break."""

from collections.abc import AsyncIterator

import pytest

from tests.support.call_centre import CallCentre
from tests.support.proxied_centre import Wired, wired


@pytest.fixture
async def wires(centre: CallCentre) -> AsyncIterator[Wired]:
    centre.salesforce.work = 0.005
    async with wired(centre) as wires:
        yield wires
