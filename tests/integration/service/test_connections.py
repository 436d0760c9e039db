"""What is opened for the settings."""

import pytest
from structlog.testing import capture_logs

from daemon.lines import FeedName
from daemon.salesforce.transport import Always
from daemon.service.connections import open_salesforce
from daemon.settings.model import Settings

SETTINGS = {
    "source_dsn": "postgresql://localhost/source",
    "clients_id": 1,
    "endpoint_url": "https://salesforce.example/x",
    "auth": "none",
}


@pytest.mark.parametrize(
    ("environment_proxy", "reasons"),
    [(False, []), (True, ["a proxy of the environment may apply"])],
)
async def test_requests_that_go_through_the_session_are_reported_once(
    *, environment_proxy: bool, reasons: list[str]
) -> None:
    settings = Settings.model_validate(SETTINGS | {"environment_proxy": environment_proxy})
    with capture_logs() as logs:
        async with open_salesforce(settings, Always()) as endpoints:
            assert set(endpoints) == {FeedName.STATISTICS}
    found = [event["reason"] for event in logs if event["event"] == "request.through_session"]
    assert found == reasons
