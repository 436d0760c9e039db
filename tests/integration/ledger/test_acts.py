"""Who did what: the name that is recorded, the command as it is shown, what it came to."""

import os
import pwd
import socket
from datetime import UTC, datetime
from unittest.mock import patch

import pytest

from daemon.ledger.acts import (
    LONGEST_NAME,
    Act,
    ActKind,
    RecordedAct,
    command_line,
    operator,
    outcome,
)
from daemon.lines import FeedName, State
from tests.support.expected import BERLIN

NOON = datetime(2026, 11, 20, 11, tzinfo=UTC)


def test_who_is_the_user_that_called_sudo() -> None:
    assert operator({"SUDO_USER": "alice"}) == f"alice@{socket.gethostname()}"


def test_who_is_the_login_name_without_sudo_whatever_the_environment_says() -> None:
    login = pwd.getpwuid(os.getuid()).pw_name
    assert operator({"USER": "mallory", "SUDO_USER": ""}) == f"{login}@{socket.gethostname()}"


def test_a_user_without_a_passwd_entry_is_a_number() -> None:
    with patch("os.getuid", return_value=4_000_000_123):
        assert operator({}) == f"4000000123@{socket.gethostname()}"


@pytest.mark.parametrize(
    ("name", "kept"),
    [("a\nb\x1b[31m", "a?b?[31m"), ("caf\udce9", "caf?"), ("x" * 999, "x" * LONGEST_NAME)],
)
def test_a_name_can_be_stored_and_shown_whatever_is_in_it(name: str, kept: str) -> None:
    assert operator({"SUDO_USER": name}) == f"{kept}@{socket.gethostname()}"


@pytest.mark.parametrize(
    ("act", "command"),
    [
        (Act(ActKind.PAUSE, "a@b", reason="release tonight"), "pause --reason 'release tonight'"),
        (Act(ActKind.RESUME, "a@b"), "resume"),
        (
            Act(ActKind.REQUEUE, "a@b", (State.REJECTED, State.EXPIRED), call_id=-7),
            "requeue --state rejected --state expired --call-id -7",
        ),
        (
            Act(ActKind.DISCARD, "a@b", (State.PENDING,), settled_since=NOON, backfill=True),
            "discard --state pending --settled-from 2026-11-20T12:00:00 --backfill",
        ),
        (
            Act(ActKind.BACKFILL, "a@b", since=NOON, until=NOON.replace(hour=12), resend=True),
            "backfill --from 2026-11-20T12:00:00 --to 2026-11-20T13:00:00 --resend",
        ),
        (
            Act(ActKind.BACKFILL, "a@b", since=NOON, feed=FeedName.STATISTICS),
            "backfill --from 2026-11-20T12:00:00",
        ),
        (
            Act(ActKind.BACKFILL, "a@b", since=NOON, feed=FeedName.CALLBACKS),
            "backfill --from 2026-11-20T12:00:00 --feed callbacks",
        ),
        (
            Act(ActKind.REQUEUE, "a@b", (State.REJECTED,), feed=FeedName.STATISTICS),
            "requeue --state rejected --feed statistics",
        ),
        (
            Act(ActKind.DISCARD, "a@b", (State.PENDING,), call_id=7, feed=FeedName.STATISTICS),
            "discard --state pending --call-id 7",
        ),
        (
            Act(ActKind.DISCARD, "a@b", (State.PENDING,), call_id=7, feed=FeedName.CALLBACKS),
            "discard --state pending --callback 7",
        ),
    ],
)
def test_an_act_is_shown_as_its_command(act: Act, command: str) -> None:
    assert command_line(act, BERLIN) == command


@pytest.mark.parametrize(
    ("kind", "ended", "lines", "said"),
    [
        (ActKind.REQUEUE, NOON, 1234, "1,234 lines"),
        (ActKind.DISCARD, NOON, 1, "1 line"),
        (ActKind.BACKFILL, None, 2000, "2,000 lines so far, not finished"),
        (ActKind.PAUSE, NOON, 0, ""),
    ],
)
def test_an_act_that_was_killed_is_not_finished(
    kind: ActKind, ended: datetime | None, lines: int, said: str
) -> None:
    assert outcome(RecordedAct(1, Act(kind, "a@b"), NOON, ended, lines)) == said
