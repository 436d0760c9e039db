"""Commands that operators ran: who, when, what, how many lines. Pure except for `operator`."""

import os
import pwd
import shlex
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from daemon.language import ngettext
from daemon.lines import FeedName, State

LONGEST_NAME = 64
"""Characters kept of a user's name, and of a machine's."""


class ActKind(StrEnum):
    """The commands that are recorded."""

    PAUSE = "pause"
    RESUME = "resume"
    REQUEUE = "requeue"
    DISCARD = "discard"
    BACKFILL = "backfill"


@dataclass(frozen=True, slots=True)
class Act:
    """A command that somebody ran (`who` is user@host), with the lines that it selects.

    `since` and `until` are ends of calls, `backfill` chose only lines of backfills. Without a
    `feed` it chose lines of all; `call_id` is an event's where that is callbacks.
    """

    kind: ActKind
    who: str
    states: tuple[State, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    settled_since: datetime | None = None
    settled_until: datetime | None = None
    call_id: int | None = None
    backfill: bool = False
    resend: bool = False
    reason: str | None = None
    feed: FeedName | None = None


@dataclass(frozen=True, slots=True)
class RecordedAct:
    """An act in the ledger: `lines` were changed so far; without `ended_at` it was not finished."""

    id: int
    act: Act
    began_at: datetime
    ended_at: datetime | None
    lines: int


def operator(environment: Mapping[str, str] = os.environ) -> str:
    """Return who runs this process, as user@host: with sudo the user who called it."""
    user = environment.get("SUDO_USER") or _login_name(os.getuid())
    return f"{_readable(user)}@{_readable(socket.gethostname())}"


def command_line(act: Act, zone: ZoneInfo) -> str:
    """Return the command without `callstatsd`; times are local to `zone`, the ACD server's."""
    words: list[str] = [act.kind]
    for state in act.states:
        words += ["--state", state]
    for option, moment in (
        ("--from", act.since),
        ("--to", act.until),
        ("--settled-from", act.settled_since),
        ("--settled-to", act.settled_until),
    ):
        if moment is not None:
            words += [option, moment.astimezone(zone).strftime("%Y-%m-%dT%H:%M:%S")]
    if act.call_id is not None:
        option = "--callback" if act.feed is FeedName.CALLBACKS else "--call-id"
        words += [option, str(act.call_id)]
    elif act.feed is not None and (act.kind, act.feed) != (ActKind.BACKFILL, FeedName.STATISTICS):
        words += ["--feed", act.feed]
    words += ["--backfill"] if act.backfill else []
    words += ["--resend"] if act.resend else []
    if act.reason is not None:
        words += ["--reason", act.reason]
    return shlex.join(words)


def outcome(recorded: RecordedAct) -> str:
    """Return how many lines an act changed, in words; empty for pause and resume."""
    if recorded.act.kind in {ActKind.PAUSE, ActKind.RESUME}:
        return ""
    if recorded.ended_at is not None:
        return ngettext("{count} line", "{count} lines", recorded.lines)
    return ngettext(
        "{count} line so far, not finished", "{count} lines so far, not finished", recorded.lines
    )


def _login_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _readable(name: str) -> str:
    """Bound a name, and leave out of it what neither Postgres nor a terminal should get."""
    text = name.encode(errors="replace").decode()
    return "".join(c if c.isprintable() else "?" for c in text[:LONGEST_NAME])
