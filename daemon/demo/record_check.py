"""What is wrong with a request to the Salesforce stand-in: its headers, JSON, lines. Pure."""

import json
import re
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

from daemon.demo.record_ids import is_id

HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "User-Agent": r"callstatsd/\S+",
    "Authorization": r"Bearer \S+",
}
KEY_SHAPE = r"\d+-\d+-\d+-\d+"

Field = tuple[str, Callable[[Any], bool]]
"""What a value is, and whether one is that."""


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; raises ValueError for a repeated key."""
    if len(pairs) != len(dict(pairs)):
        raise ValueError("a key occurs twice")
    return dict(pairs)


def parse(body: bytes) -> tuple[dict[str, Any], list[str]]:
    """Read a body as one JSON object, strictly; returns it and its faults as sentences."""
    try:
        record = json.loads(body.decode("utf-8"), object_pairs_hook=once)
    except ValueError as error:
        return {}, [f"the body is not UTF-8 JSON: {error}"]
    return (record, []) if isinstance(record, dict) else ({}, ["the body is not an object"])


def header_faults(headers: Mapping[str, str], key_shape: str, *, token: bool) -> list[str]:
    """Return how the headers differ from those that every record has."""
    shapes = HEADERS | {"Idempotency-Key": key_shape}
    return [
        f"{name} is not {shape}"
        for name, shape in shapes.items()
        if (token or name != "Authorization") and not shaped(shape)(headers[name])
    ]


def shaped(pattern: str) -> Callable[[Any], bool]:
    """Return a predicate for strings of a pattern."""
    return lambda v: (
        isinstance(v, str) and re.fullmatch(pattern, v, re.ASCII | re.DOTALL) is not None
    )


def is_time(value: Any) -> bool:
    """Return whether a value is a date and time without fraction and offset."""
    try:
        shape = shaped(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
        return shape(value) and datetime.fromisoformat(value) is not None
    except ValueError:
        return False


def is_integer(value: Any) -> bool:
    """Return whether a value is an integer; true and false are not."""
    return type(value) is int


TEXT = ("text", shaped(".+"))
TIME = ("a time", is_time)
INTEGER = ("an integer", is_integer)
PHONE = ("digits without leading 00", shaped("(?!00)[0-9]+"))
RECORD_ID = ("a record id", is_id)
FIELDS: dict[str, Field] = {
    "SalesForceID": RECORD_ID,
    "jtelStatisticsPartAID": INTEGER,
    "AgentUID": TEXT,
    "bOutbound": ("0 or 1", lambda value: is_integer(value) and value in (0, 1)),
    "CallerID": PHONE,
    "ServiceNumber": TEXT,
    "ServiceName": TEXT,
    "AcdAgentGroupsName": TEXT,
    "AcdConfigurationGroupsName": TEXT,
    "dtCallStart": TIME,
    "dtCallAlert": TIME,
    "dtCallConnect": TIME,
    "dtCallEnd": TIME,
    "nDuration": ("an integer from -1 on", lambda value: is_integer(value) and value >= -1),
    "CONNRES": INTEGER,
    "Cause": INTEGER,
    "TransactionCodeExportKey": TEXT,
}


def field_faults(
    record: dict[str, Any],
    fields: Mapping[str, Field],
    required: Collection[str],
    empty: str | None,
) -> list[str]:
    """Return how keys and values differ from `fields`; empty integers are always null."""
    if list(record) != list(fields):
        return [f"the keys are {', '.join(record)}"]
    faults = []
    for name, (what, fits) in fields.items():
        void = None if fields[name] is INTEGER else empty
        if not fits(record[name]) and (name in required or record[name] != void):
            faults.append(f"{name} is not {what}: {record[name]!r}")
    return faults


def record_faults(
    record: dict[str, Any], key: str, empty: str | None, *, without_id: bool
) -> list[str]:
    """Return how a record differs from the 17 keys and their types."""
    required = {"jtelStatisticsPartAID", "bOutbound", "nDuration"}
    if not without_id:
        required.add("SalesForceID")
    faults = field_faults(record, FIELDS, required, empty)
    if list(record) != list(FIELDS):
        return faults
    if key.partition("-")[0] != str(record["jtelStatisticsPartAID"]):
        faults.append(f"the key is not one of call {record['jtelStatisticsPartAID']}")
    if (record["nDuration"] == -1) != (record["dtCallConnect"] == empty):
        faults.append("nDuration is -1 with dtCallConnect, or not -1 without it")
    return faults
