"""What a new event may say (seed 002): faults are found here, before anything is sent. Pure."""

import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from daemon.acd.answers import CALLBACK
from daemon.urls import is_web_url

KEYS = {
    "type": "AcdEventTypesID",
    "group": "AcdGroupsID",
    "configuration_group": "AcdConfigurationGroupsID",
    "agent_group": "AcdAgentGroupsID",
    "user": "UsersID",
    "sender": "Sender",
    "receiver": "Receiver",
    "subject": "Subject",
    "body": "Body",
    "crm_url": "CrmURL",
    "user_data": "UserData",
    "priority": "nPriority",
    "appointment_date": "dtAppointmentDate",
    "appointment_time": "dtAppointmentTime",
}
"""Options of `callstatsd acd create` and the keys of the request, in the request's order."""

_DATE = re.compile(r"([0-9]{4})(-?)([0-9]{2})\2([0-9]{2})")
_TIME = re.compile(r"([01][0-9]|2[0-3]):?[0-5][0-9]")


def request_body(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request for the options that are given; raises ValueError with what is wrong."""
    given = {name: options[name] for name in KEYS if options.get(name) is not None}
    for fault in _faults(given):
        raise ValueError(fault)
    return {KEYS[name]: value for name, value in given.items()}


def _faults(given: Mapping[str, Any]) -> Iterator[str]:
    for name in ("sender", "subject"):
        if not str(given.get(name, "")).strip():
            yield f"--{name} must not be empty"
    pair = [name for name in ("configuration_group", "agent_group") if name in given]
    if "group" in given and pair:
        yield "give --group, or --configuration-group with --agent-group, not both"
    if "group" not in given and len(pair) != 2:
        yield "give --group, or --configuration-group with --agent-group"
    if "body" in given and given["type"] != CALLBACK:
        yield f"--body is for callbacks only (--type {CALLBACK})"
    if "appointment_date" in given and not _is_date(given["appointment_date"]):
        yield "--appointment-date must be a date, yyyy-mm-dd or yyyymmdd"
    if "appointment_time" in given and not _TIME.fullmatch(given["appointment_time"]):
        yield "--appointment-time must be a time, hh:mm or hhmm"
    if "crm_url" in given and not is_web_url(given["crm_url"]):
        yield "--crm-url must be a whole URL, https://HOST/PATH"


def _is_date(text: str) -> bool:
    match = _DATE.fullmatch(text)
    if match is None:
        return False
    try:
        date(int(match[1]), int(match[3]), int(match[4]))
    except ValueError:
        return False
    return True
