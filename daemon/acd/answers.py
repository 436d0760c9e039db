"""What the ACD's REST server answers: events, or why there are none. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import orjson

from daemon.errors import CallstatsdError
from daemon.lines import BIGINT_MAX

EVENT_TYPES = {
    1: "VoiceMail",
    2: "Fax",
    3: "Callback",
    4: "SMS",
    5: "Email",
    6: "WorkFlowConnector",
    7: "Chat",
}
"""Types of events where the ACD does not list them (seed 002)."""
EVENT_STATUSES = {
    0: "EnterSystem",
    1: "Distribute",
    2: "TransportSMTP",
    4: "TransportToGroup",
    10: "TransportAgent",
    20: "New",
    30: "Seen",
    40: "Remind",
    98: "ChatClosed",
    99: "Done",
    100: "Error",
}
"""Statuses of events, likewise."""
CALLBACK = 3
ALERT_PREFIX = "callstatsd-alert-"
"""Begins the UserData of our own alerts; `ingest/callbacks.sql` knows it too."""

MAX_WORDS = 300
"""Characters of the ACD's own words that are shown."""
_LATER = {408, 421, 425, 429}
"""Statuses of a server that may answer otherwise later; so may 5xx other than 500."""


_OF_A_PROXY = {None, 502, 504}
"""No answer, or one of a proxy that had none."""


class AcdError(CallstatsdError):
    """The ACD gave no events; `status` is its HTTP status, None if there was no response."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class AcdRefusedError(AcdError):
    """It refused this request, in these words of its own."""

    def __init__(self, words: str, status: int) -> None:
        super().__init__(f"the ACD refused ({status}): {words}", status)
        self.words = words
        self.status: int = status


class AcdSetupError(AcdError):
    """Its address or token is wrong."""

    exit_code = 78


class AcdFunctionError(AcdSetupError):
    """It has no such function, or its address is wrong."""


class AcdUnavailableError(AcdError):
    """It gave no usable response now; `sent` if the request may have been carried out."""

    exit_code = 69

    def __init__(self, message: str, status: int | None = None, *, sent: bool = True) -> None:
        super().__init__(message, status)
        self.sent = sent

    @property
    def unheard(self) -> bool:
        """Whether the ACD itself answered nothing, and may still be at work on the request."""
        return self.sent and self.status in _OF_A_PROXY


@dataclass(frozen=True, slots=True)
class AcdEvent:
    """An event; None for what is missing or of another type, `record` has all as it came.

    Times are the ACD's local time, as text with milliseconds and without an offset.
    """

    id: int | None
    type_id: int | None
    status_id: int | None
    group_id: int | None
    user_id: int | None
    priority: int | None
    sender: str | None
    receiver: str | None
    subject: str | None
    user_data: str | None
    crm_url: str | None
    event_data: str | None
    created: str | None
    modified: str | None
    last_modified: str | None
    record: Mapping[str, Any]

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """Read a record of the ACD."""
        return cls(
            id=_integer(record.get("ID")),
            type_id=_integer(record.get("AcdEventTypesID")),
            status_id=_integer(record.get("AcdEventStatusID")),
            group_id=_integer(record.get("AcdGroupsID")),
            user_id=_integer(record.get("UsersID")),
            priority=_integer(record.get("nPriority")),
            sender=_text(record.get("Sender")),
            receiver=_text(record.get("Receiver")),
            subject=_text(record.get("Subject")),
            user_data=_text(record.get("UserData")),
            crm_url=_text(record.get("CrmURL")),
            event_data=_text(record.get("EventData")),
            created=_text(record.get("dtCreated")),
            modified=_text(record.get("dtModified")),
            last_modified=_text(record.get("dtLastModified")),
            record=record,
        )

    @property
    def updated(self) -> bool:
        """Whether `create` added a comment to this event, because its group has no duplicates."""
        return self.record.get("Result_") == "UPDATED"


def read_records(status: int, body: bytes | bytearray) -> list[dict[str, Any]]:
    """Return the records of a response; raises `AcdError`.

    A `status` in the body counts instead of an HTTP status of 200.
    """
    try:
        answer, is_json = _parsed(body), True
    except ValueError:
        answer, is_json = None, False
    said: dict[str, Any] = answer if isinstance(answer, dict) else {}
    inner = _integer(said.get("status"))
    if status == 200 and inner is not None:
        status = inner
    if status == 200:
        records = said.get("records")
        if isinstance(records, list) and all(isinstance(one, dict) for one in records):
            return records
    raise _error(status, said.get("error"), is_json=is_json)


def _parsed(body: bytes | bytearray) -> Any:
    """Parse JSON, also with a byte order mark or half a character in a text.

    Raises `ValueError`.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            lenient = json.dumps(json.loads(body), ensure_ascii=False)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        return orjson.loads(lenient.encode("utf-8", "replace"))


def _error(status: int, reason: object, *, is_json: bool) -> AcdError:
    words = " ".join(reason.split())[:MAX_WORDS] if isinstance(reason, str) else ""
    match status:
        case 401:
            return AcdSetupError(
                "the ACD refuses the token (401): correct CALLSTATSD_ACD_TOKEN, or the ClientsID "
                "at the end of CALLSTATSD_ACD_URL",
                status,
            )
        case 404 if not is_json:
            return AcdFunctionError(
                "the ACD's REST server does not have this function (404): correct "
                "CALLSTATSD_ACD_URL, or update the ACD",
                status,
            )
    if status in _LATER or 500 < status < 600:
        return AcdUnavailableError(
            f"the ACD's REST server is not available now ({status}): try again later", status
        )
    if 400 <= status <= 500:
        return AcdRefusedError(words or "no reason given", status)
    return AcdSetupError(
        f"no jtel REST server answers there ({status}): write its address into "
        "CALLSTATSD_ACD_URL, https://HOST:PORT/rest/v1.0/CLIENTSID",
        status,
    )


def _integer(value: object) -> int | None:
    """Return an integer that a column may hold."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= BIGINT_MAX:
        return value
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
