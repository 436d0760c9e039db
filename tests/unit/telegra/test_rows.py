"""The rows of a call are a function of the set of its notifications (telegra, section 5)."""

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from daemon.telegra.notifications import Notification
from daemon.telegra.rows import call_rows, masters_of, scheduled_call
from tests.support.telegra_scripts import START

INBOUND = [
    "CallStart",
    "Alerting",
    "Timeout",
    "Busy",
    "Connected",
    "ForwardAgent",
    "ForwardGroup",
    "ForwardHotline",
    "ForwardNumber",
    "ConfAgent",
    "ConfGroup",
    "ConfNumber",
    "ConfBusy",
    "ConfTimeout",
    "ConfConnected",
    "ConfEnd",
    "WaitingQueue",
    "Mailbox",
    "Announcement",
    "Rejected",
    "BadCall",
    "CallEnd",
    "Holdstart",
    "Holdstop",
    "ConfConnectedWithAgent",
    "ConfConnectedWithCaller",
    "ConfConnectedWithNumber",
    "ConfConference",
    "ConfTransfer",
    "Working",
]
OUTBOUND = [
    "CallStart",
    "Alerting",
    "Timeout",
    "BTimeout",
    "Busy",
    "BBusy",
    "Connected",
    "AConnected",
    "BConnected",
    "Rejected",
    "BadCall",
    "CallEnd",
    "OutWorking",
    "ConfAgent",
    "ConfTransfer",
]
AGENTS = ["100001", "100002", "100003", ""]


@st.composite
def calls(draw: st.DrawFn, kinds: Sequence[str] | None = None) -> list[Notification]:
    """A call of any events in order, with classifications and agentstates among them."""
    mode = draw(st.sampled_from("01"))
    usual = kinds or (OUTBOUND if mode == "1" else INBOUND)
    number = draw(st.integers(1, 20))
    kept = []
    for row_id in range(1, number + 1):
        told: dict[str, str] = {"customernumber": "4711", "taskid": "af", "mode": mode}
        command = draw(st.sampled_from(["callevent"] * 6 + ["classificationevent", "agentstate"]))
        agent = draw(st.sampled_from(AGENTS))
        if command == "callevent" or row_id == 1:
            command = "callevent"
            told |= {
                "id": str(row_id),
                "eventtype": "CallStart" if row_id == 1 else draw(st.sampled_from(usual)),
                "agentid": agent,
                "conf_agent": draw(st.sampled_from(AGENTS)),
                "groupid": draw(st.sampled_from(["", "", "40", "41"])),
                "hotlineid": "7",
                "mandatorid": "3",
                "callingnumber": draw(st.sampled_from(["", "+4922155", "0221xxx"])),
            }
        elif command == "classificationevent":
            told |= {"callid": "af", "agent": agent, "classificationreason": "SOLD"}
        else:
            told |= {"requesttext": "0D5D0000000XZoHKAW", "group": "Support", "groupid": "40"}
        kept.append(Notification(row_id, command, START + timedelta(seconds=row_id), told))
    return kept


@given(calls(), st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(
    kept: list[Notification], chance: random.Random
) -> None:
    mixed = chance.sample(kept, len(kept))
    assert call_rows(1, 4711, mixed, "49") == call_rows(1, 4711, kept, "49")
    assert masters_of(mixed, "49") == masters_of(kept, "49")


@given(calls())
def test_each_prefix_is_only_completed_by_the_next(kept: list[Notification]) -> None:
    for end in range(1, len(kept)):
        before = call_rows(1, 4711, kept[:end], "49")
        after = call_rows(1, 4711, kept[: end + 1], "49")
        assert before is not None
        assert after is not None
        # Until a call is refused its cause is that of a normal end.
        assert completes(before.call._replace(cause=0), after.call._replace(cause=0))
        assert before.call.cause in {after.call.cause, 16}
        assert completes((before.ended,), (after.ended,))
        pairs: list[tuple[Sequence[Any], Sequence[Any]]] = [
            (before.visits, after.visits),
            (before.legs, after.legs),
            (before.codes, after.codes),
        ]
        for rows, more in pairs:
            assert len(more) - len(rows) in {0, 1}
            assert all(map(completes, rows, more))


def completes(before: Sequence[Any], after: Sequence[Any]) -> bool:
    """Whether only what was unknown has changed."""
    return all(old is None or old == new for old, new in zip(before, after, strict=True))


@given(calls(), st.text(min_size=1).filter(str.strip))
def test_an_unknown_eventtype_hurts_nobody(kept: list[Notification], kind: str) -> None:
    known = {name.lower() for name in [*INBOUND, *OUTBOUND]}
    if kind.strip().lower() in known:
        return
    stranger = Notification(99, "callevent", kept[-1].at, {"eventtype": kind, "taskid": "af"})
    assert call_rows(1, 4711, [*kept, stranger], "49") == call_rows(1, 4711, kept, "49")


@given(calls(), st.dictionaries(st.sampled_from(["id", "agentid", "groupid", "mode"]), st.text()))
def test_any_text_in_any_parameter_is_survived(
    kept: list[Notification], odd: dict[str, str]
) -> None:
    spoilt = [one._replace(parameters=one.parameters | odd) for one in kept]
    assert call_rows(1, 4711, spoilt, "49") is not None


@given(calls())
def test_legs_keep_what_their_table_says(kept: list[Notification]) -> None:
    rows = call_rows(1, 4711, kept, "49")
    assert rows is not None
    for leg in rows.legs:
        assert (leg.connres is None) == (leg.ended is None) == (leg.cause is None)
        if leg.connres == 1:
            assert leg.connected is not None
        if leg.connres in {0, 2, 3, 7}:
            assert leg.connected is None
        assert rows.call.outbound or leg.connres != 0
    assert not rows.call.outbound or len(rows.legs) <= 1


def test_a_call_has_no_rows_before_its_first_callevent() -> None:
    state = Notification(1, "agentstate", START, {"requesttext": "0D5D0000000XZoHKAW"})
    assert call_rows(1, 4711, [state], "49") is None


def test_a_call_that_was_connected_without_a_connected_leg_is_incomplete() -> None:
    end = {"eventtype": "CallEnd", "connected": "1"}
    rows = call_rows(1, 0, [Notification(1, "callevent", START, end)], "49")
    assert rows is not None
    assert rows.incomplete
    answered = Notification(2, "callevent", START, {"eventtype": "Connected", "id": "1"})
    kept = [Notification(1, "callevent", START, end | {"id": "2"}), answered]
    rows = call_rows(1, 0, kept, "49")
    assert rows is not None
    assert not rows.incomplete


def test_a_code_before_any_leg_of_its_agent_belongs_to_his_next_one() -> None:
    kept = [
        Notification(1, "callevent", START + timedelta(seconds=1), {"eventtype": "Connected",
                                                                     "agentid": "100001"}),
        Notification(2, "classificationevent", START, {"agent": "100001",
                                                       "classificationreason": " SOLD "}),
    ]  # fmt: skip
    rows = call_rows(1, 0, kept, "49")
    assert rows is not None
    assert [(code.leg_id, code.reason, code.category) for code in rows.codes] == [(1, "SOLD", "")]


def test_a_planned_callback() -> None:
    said = {
        "scheduleid": "12",
        "agentid": "100001",
        "callednumber": "0221 2601599",
        "nextretrystartdate": "2026-11-21 10:00",
        "nextretryenddate": "2026-11-21 12:00",
        "requesttext": "Case 0D5D0000000XZoHKAW",
        "agenttype": "ONLY_AGENT",
    }
    row = scheduled_call(5, 4711, said, START, "49")
    assert row == (
        5, 4711, 100001, 100001, "492212601599",
        "Scheduled call 2026-11-21 10:00 - 2026-11-21 12:00", "Case 0D5D0000000XZoHKAW",
        "0D5D0000000XZoHKAW", START,
    )  # fmt: skip
    everyone = scheduled_call(5, 4711, said | {"agenttype": "EVERYONE"}, START, "49")
    assert (everyone.agent, everyone.creator) == (None, 100001)


def test_masters_are_named_by_what_tells_a_name_first() -> None:
    kept = [
        Notification(1, "callevent", START, {"hotlineid": "7", "callednumber": "0800999",
                                             "groupid": "40", "agentid": " 012345 ",
                                             "eventtype": "Alerting", "mode": "0"}),
        Notification(2, "agentstate", START, {"hotline": "Shop", "hotlineid": "7",
                                              "mandator": "Campaign", "mandatorid": "3",
                                              "group": "Support", "groupid": "40"}),
        Notification(3, "agentstate", START, {"hotline": "Renamed", "hotlineid": "7"}),
        Notification(4, "callevent", START, {"hotlineid": "7", "callednumber": "0800111",
                                             "eventtype": "Alerting", "mandatorid": "3"}),
    ]  # fmt: skip
    known = masters_of(kept, "49")
    assert known.users == {12345: "012345"}
    assert known.groups == {40: "Support"}
    assert known.service_numbers == {7: ("49800999", "Shop"), -3: (None, "Campaign")}


def test_ids_of_any_length_give_the_order_at_one_time() -> None:
    said = {"agentid": "5", "groupid": "40"}
    kept = [
        Notification(number, "callevent", START, said | {"eventtype": kind, "id": f"{event_id}"})
        for number, (kind, event_id) in enumerate(
            [("Working", 10**19), ("Connected", 10**19 - 1)], 1
        )
    ]
    rows = call_rows(1, 4711, kept, "49")
    assert rows is not None
    assert [leg.connres for leg in rows.legs] == [1]
