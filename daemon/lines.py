"""The data line: one attempt, one visit or one code of a call, as the source has it. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple


class LineKey(NamedTuple):
    """Ids of StatisticsPartA, AcdStatisticsPartB, StatisticsPartB and the transaction code.

    Written `A-G-B-T`. 0 means that the line has no such row; a dangling id is kept as stored
    (contract, section 3).
    """

    call_id: int
    group_id: int
    leg_id: int
    code_id: int

    def __str__(self) -> str:
        """Give the form that users, logs and the Idempotency-Key header see."""
        return f"{self.call_id}-{self.group_id}-{self.leg_id}-{self.code_id}"


@dataclass(frozen=True, slots=True)
class DataLine:
    """One row of the expanded call, before it is a record; column values as the driver read them.

    `Any` marks numbers that a foreign view may hold as something else; `record` judges them.
    Times are aware (UTC) where the column is `timestamptz`, naive ACD server time where it is
    `timestamp`. `call_ended` is the instant that orders calls: the call's end, or its start
    where the end was never determined.
    """

    key: LineKey
    ordinal: int
    call_ended: datetime
    call_number: Any
    outbound: Any
    a_number: str | None
    b_number: str | None
    call_user_data: str | None
    code_user_data: str | None
    agent_uid: str | None
    service_number: str | None
    service_name: str | None
    agent_group: str | None
    configuration_group: str | None
    call_start: datetime | None
    call_end: datetime | None
    call_cause: Any
    has_leg: bool
    leg_start: datetime | None
    leg_alert: datetime | None
    leg_connect: datetime | None
    leg_end: datetime | None
    leg_connres: Any
    leg_cause: Any
    export_key: str | None
