"""Questions to the Salesforce stand-in's onClickToDial, compared with the contract. Pure."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from daemon.demo.record_check import HEADERS, shaped
from daemon.demo.record_ids import Outcome, is_id
from daemon.demo.rows import SERVICE_NUMBERS

PARAMETERS = ("SalesForceID", "CallerID", "AgentUID")
SERVICE = {
    "ServiceNumber": SERVICE_NUMBERS[0].name,
    "ServiceNumberName": SERVICE_NUMBERS[0].name2,
}
"""What the org allows: to show the first service number of the sample calls."""
ANSWERS: dict[Outcome, tuple[int, Any]] = {
    "exists": (200, SERVICE),
    "missing": (404, {"code": "NO_SUCH_RECORD", "message": "There is no such record"}),
    "conflict": (403, {"code": "NOT_ALLOWED", "message": "This call is not allowed"}),
    "rejected": (400, {"code": "BAD_REQUEST", "message": "This record cannot be called"}),
}

_ENCODED = re.compile(r"(?:[A-Za-z0-9._~=&-]|%[0-9A-F]{2})*")
_NUMBER = shaped(r"\+?[0-9*#]{1,32}")


def read(method: str, query: str) -> tuple[dict[str, str], list[str]]:
    """Read the parameters of a question, strictly; returns them and their faults as sentences."""
    if method != "GET":
        return {}, [f"the method is {method}"]
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError as error:
        return {}, [f"the query cannot be read: {error}"]
    if tuple(name for name, _ in pairs) != PARAMETERS:
        return {}, [f"the parameters are {', '.join(name for name, _ in pairs)}"]
    parameters = dict(pairs)
    faults = []
    if not _ENCODED.fullmatch(query):
        faults.append("the query is not percent-encoded")
    if not is_id(parameters["SalesForceID"]):
        faults.append("SalesForceID is not a record id")
    if not _NUMBER(parameters["CallerID"]):
        faults.append("CallerID is not a clean number")
    if not parameters["AgentUID"]:
        faults.append("AgentUID is empty")
    return parameters, faults


def header_faults(headers: Mapping[str, str], *, token: bool) -> list[str]:
    """Return how the headers differ from those of a question."""
    wanted = {name: shape for name, shape in HEADERS.items() if name != "Content-Type"}
    faults = [
        f"{name} is not {shape}"
        for name, shape in wanted.items()
        if (token or name != "Authorization") and not shaped(shape)(headers.get(name, ""))
    ]
    return faults + [
        f"{name} does not belong to a question"
        for name in ("Idempotency-Key", "Content-Length", "Transfer-Encoding", "Content-Type")
        if name in headers
    ]
