"""What a new event may say is checked before it is sent (the contract's list of exit 2)."""

from typing import Any

import pytest

from daemon.acd.new_event import request_body

OPTIONS: dict[str, Any] = {
    "type": 3,
    "group": 235,
    "sender": "49301234567",
    "subject": "Please call",
}


def test_only_what_is_given_is_sent_in_the_order_of_the_contract() -> None:
    assert list(request_body(dict(reversed(OPTIONS.items()))).items()) == [
        ("AcdEventTypesID", 3),
        ("AcdGroupsID", 235),
        ("Sender", "49301234567"),
        ("Subject", "Please call"),
    ]


def test_every_option_has_its_key() -> None:
    options = OPTIONS | {
        "group": None,
        "configuration_group": 1,
        "agent_group": 0,
        "user": 3,
        "receiver": "4930",
        "body": "x",
        "crm_url": "https://www.example.com/a?b=c",
        "user_data": "987654",
        "priority": 50,
        "appointment_date": "2026-11-30",
        "appointment_time": "09:30",
    }
    assert list(request_body(options)) == [
        "AcdEventTypesID",
        "AcdConfigurationGroupsID",
        "AcdAgentGroupsID",
        "UsersID",
        "Sender",
        "Receiver",
        "Subject",
        "Body",
        "CrmURL",
        "UserData",
        "nPriority",
        "dtAppointmentDate",
        "dtAppointmentTime",
    ]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sender": ""}, "--sender must not be empty"),
        ({"subject": " "}, "--subject must not be empty"),
        ({"group": None}, "give --group, or --configuration-group with --agent-group"),
        ({"group": None, "agent_group": 1}, "give --group, or"),
        ({"group": None, "configuration_group": 1}, "give --group, or"),
        ({"agent_group": 1}, "not both"),
        ({"agent_group": 1, "configuration_group": 1}, "not both"),
        ({"type": 6, "body": "x"}, "--body is for callbacks only"),
    ],
)
def test_what_the_acd_would_refuse_is_a_fault(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        request_body(OPTIONS | changed)


@pytest.mark.parametrize("good", ["2026-11-30", "20261130", "2028-02-29"])
def test_a_date_may_be_written_in_two_ways(good: str) -> None:
    assert request_body(OPTIONS | {"appointment_date": good})["dtAppointmentDate"] == good


@pytest.mark.parametrize(
    "bad", ["", "2026-11-31", "2026-1130", "202611-30", "30.11.2026", "0000-01-01", "2026-11-30 "]
)
def test_other_dates_are_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="--appointment-date must be a date"):
        request_body(OPTIONS | {"appointment_date": bad})


@pytest.mark.parametrize("good", ["00:00", "0930", "23:59"])
def test_a_time_may_be_written_in_two_ways(good: str) -> None:
    assert request_body(OPTIONS | {"appointment_time": good})["dtAppointmentTime"] == good


@pytest.mark.parametrize("bad", ["", "24:00", "09:60", "9:30", "930", "09:30:00", "٠٩:٣٠"])
def test_other_times_are_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="--appointment-time must be a time"):
        request_body(OPTIONS | {"appointment_time": bad})


@pytest.mark.parametrize(
    "bad",
    ["", "www.example.com", "ftp://example.com", "https://", "https://a b/", "https://h:port/",
     "javascript:alert(1)", 'https://h/"x', "https://[::1/"],
)  # fmt: skip
def test_an_address_that_is_not_well_formed_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="--crm-url must be a whole URL"):
        request_body(OPTIONS | {"crm_url": bad})
