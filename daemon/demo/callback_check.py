"""Records to the stand-in's createCallback, compared with their 21 keys and types. Pure."""

from typing import Any

from daemon.demo.record_check import (
    INTEGER,
    PHONE,
    RECORD_ID,
    TEXT,
    TIME,
    Field,
    field_faults,
    is_integer,
)

KEY_SHAPE = r"callback-\d+"
FIELDS: dict[str, Field] = {
    "Caller": PHONE,
    "CallbackNumber": PHONE,
    "ServiceNumbersNumber": PHONE,
    "ServiceNumbersName": TEXT,
    "AcdGroupsID": INTEGER,
    "AcdGroupsName": TEXT,
    "AcdGroupsForeignSystemID": TEXT,
    "dtCallStart": TIME,
    "dtCallEnd": TIME,
    "ID": INTEGER,
    "AcdEventsID": INTEGER,
    "Subject": TEXT,
    "Body": TEXT,
    "CreatingUsersID": INTEGER,
    "CreatingUsersUID": TEXT,
    "CreatingUsersNickName": TEXT,
    "TargetUsersID": INTEGER,
    "TargetUsersUID": TEXT,
    "TargetUsersNickName": TEXT,
    "SalesforceId": RECORD_ID,
    "SalesforceQueryResult": ("0, 1 or 2", lambda value: is_integer(value) and value in (0, 1, 2)),
}
REQUIRED = {"ID", "AcdEventsID", "SalesforceQueryResult"}
BELONGS_TO = {
    "AcdGroupsName": "AcdGroupsID",
    "AcdGroupsForeignSystemID": "AcdGroupsID",
    "dtCallEnd": "dtCallStart",
    "CreatingUsersUID": "CreatingUsersID",
    "CreatingUsersNickName": "CreatingUsersID",
    "TargetUsersUID": "TargetUsersID",
    "TargetUsersNickName": "TargetUsersID",
}


def record_faults(record: dict[str, Any], key: str, empty: str | None) -> list[str]:
    """Return how a record differs from these keys and types."""
    faults = field_faults(record, FIELDS, REQUIRED, empty)
    if list(record) != list(FIELDS):
        return faults
    event = record["AcdEventsID"]
    if record["ID"] != event:
        faults.append(f"ID and AcdEventsID differ: {record['ID']} and {event}")
    if key != f"callback-{event}":
        faults.append(f"the key is not the one of event {event}")
    for name, owner in BELONGS_TO.items():
        void = None if FIELDS[owner] is INTEGER else empty
        if record[owner] == void and record[name] != empty:
            faults.append(f"{name} comes without {owner}")
    return faults
