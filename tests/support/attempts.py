"""The vendor's example call as the rows of its lines."""

from datetime import UTC, datetime
from typing import Any

from daemon.ingest.record import call_statistics
from daemon.lines import DataLine, LineKey
from tests.support.expected import BERLIN

RECORD_ID = "0D5D0000000XZoHKAW"
CODE_RECORD_ID = "0059E000002GhnoQAC"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def naive(text: str) -> datetime:
    return datetime.fromisoformat(text)


# Seed 003's table: the call, its first attempt (agent W), and what the other four lines change.
ATTEMPT_W = DataLine(
    key=LineKey(1201, 2201, 3201, 0),
    ordinal=1,
    call_ended=utc("2026-11-20T09:09:59.900"),
    call_number=1201,
    outbound=False,
    a_number="+49 (0)711 12345-67",
    b_number="0049 89 4613 950",
    call_user_data=f" {RECORD_ID} ",
    code_user_data=None,
    agent_uid="agent.w",
    service_number="+49 89 4613950",
    service_name="Störungsannahme",
    agent_group="Group 1",
    configuration_group="Region South",
    call_start=utc("2026-11-20T09:00:00.100"),
    call_end=utc("2026-11-20T09:09:59.900"),
    call_cause=16,
    has_leg=True,
    leg_start=utc("2026-11-20T09:00:10.999"),
    leg_alert=utc("2026-11-20T09:00:11"),
    leg_connect=None,
    leg_end=utc("2026-11-20T09:00:31"),
    leg_connres=2,
    leg_cause=19,
    export_key=None,
)
CODE_AAA = ATTEMPT_W._replace(
    key=LineKey(1201, 2202, 3203, 4201),
    ordinal=3,
    agent_uid="agent.y",
    agent_group="Group 2",
    configuration_group="Group 2",
    leg_start=utc("2026-11-20T09:01:00"),
    leg_alert=utc("2026-11-20T09:01:02"),
    leg_connect=utc("2026-11-20T09:01:08"),
    leg_end=utc("2026-11-20T09:05:08.500"),
    leg_connres=1,
    leg_cause=16,
    export_key="AAA",
)
NO_LEG = ATTEMPT_W._replace(
    key=LineKey(1201, 2201, 0, 0),
    agent_uid=None,
    has_leg=False,
    leg_start=None,
    leg_alert=None,
    leg_connect=None,
    leg_end=None,
    leg_connres=None,
    leg_cause=None,
)


def field(key: str, **changes: Any) -> Any:
    """One key of the record of a changed line."""
    return getattr(call_statistics(CODE_AAA._replace(**changes), BERLIN), key)
