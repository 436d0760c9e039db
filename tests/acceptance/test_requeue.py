"""`requeue` and `discard` of many lines: what they refuse, when they ask, what is on record."""

import asyncio
import json
import signal
import socket
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemon.cli import operations
from daemon.ledger.acts import ActKind
from daemon.ledger.operator import BATCH
from daemon.ledger.overview import LineFilter
from daemon.lines import State
from tests.support.call_centre import CallCentre
from tests.support.daemon_process import PATIENCE
from tests.support.terminals import terminal

NOON = datetime(2026, 11, 20, 11, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
SETTLED_BACKWARDS = ("--settled-from", "2026-11-21", "--settled-to", "2026-11-20")
WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
MANY = operations.ASK_ABOVE + 1


@pytest.mark.parametrize("state", State)
def test_what_salesforce_answered_for_good_cannot_be_discarded(state: State) -> None:
    refused = operations.refusal(ActKind.DISCARD, LineFilter((State.PENDING, state)))
    if state in {State.PENDING, State.REJECTED, State.EXPIRED, State.INVALID}:
        assert refused is None
    else:
        assert refused is not None
        assert refused.startswith(f"{state} lines stay as they are")
        assert refused.endswith("choose pending, rejected, expired or invalid")


@pytest.mark.parametrize(
    ("choice", "refused"),
    [
        (LineFilter((State.PENDING,)), True),
        (LineFilter((State.REJECTED,)), False),
        (LineFilter((State.REJECTED, State.DELIVERED)), True),
        (LineFilter((State.DELIVERED,), call_id=0), False),
        (LineFilter((State.DELIVERED,), since=NOON), True),
        (LineFilter((State.DELIVERED,), since=NOON, until=LATER), False),
        (LineFilter((State.DELIVERED,), since=NOON, settled_until=LATER), True),
        (LineFilter((State.DELIVERED,), settled_since=NOON, settled_until=LATER), False),
    ],
)
def test_delivered_lines_go_again_only_of_a_call_or_a_window(
    choice: LineFilter, refused: bool
) -> None:
    assert (operations.refusal(ActKind.REQUEUE, choice) is not None) == refused


async def add(centre: CallCentre, state: State, count: int, *, settled: datetime = NOON) -> None:
    """So many lines in that state; each settled a second after the one before."""
    await centre.db.execute(
        """
        INSERT INTO line (call_id, group_id, leg_id, code_id, ordinal, lane, call_ended, backfill,
                          state, record, settled_at)
        SELECT coalesce(max(l.call_id), 0) + n, 0, 0, 0, 1, n::text, now(), false, $1, '{}',
               $3::timestamptz + n * interval '1 second'
        FROM generate_series(1, $2::integer) AS n, (SELECT max(call_id) AS call_id FROM line) AS l
        GROUP BY n
        """,
        state, count, settled,
    )  # fmt: skip


async def typed(centre: CallCentre, answer: str, *arguments: str) -> tuple[int, str]:
    """Run a command on a terminal, and type an answer when it asks; returns what was shown."""
    environment = centre.settings(log_level="error")
    async with terminal(
        *arguments, environment=environment, folder=centre.folder, columns=80
    ) as shown:
        await shown.shows("[y/N]")
        shown.press(f"{answer}\n".encode())
        return await shown.ended(), shown.text


async def test_many_lines_are_sent_again_only_by_somebody_who_says_yes(centre: CallCentre) -> None:
    await add(centre, State.REJECTED, MANY)
    await add(centre, State.EXPIRED, 3)
    both = ("requeue", "--state", "rejected", "--state", "expired")

    code, shown = await typed(centre, "n", *both)
    assert code == 1
    assert f"Send {MANY + 3} lines again? [y/N]" in shown
    before, _, after = shown.partition("Send")
    assert str(MANY) in before
    assert "Nothing was changed." in after
    assert await centre.states() == Counter(rejected=MANY, expired=3)

    code, output, errors = await centre.run(*both)
    assert (code, "--yes" in errors) == (2, True)
    assert str(MANY) in output
    assert await centre.states() == Counter(rejected=MANY, expired=3)
    assert await centre.db.fetchval("SELECT count(*) FROM act") == 0

    code, shown = await typed(centre, "y", *both)
    assert code == 0
    assert await centre.states() == Counter(pending=MANY + 3)

    code, output, _ = await centre.run("discard", "--state", "pending", "--dry-run")
    assert (code, "would be discarded" in output) == (0, True)
    code, output, _ = await centre.run("discard", "--state", "pending", "--yes")
    assert (code, f"{MANY + 3} lines discarded." in output) == (0, True)
    assert await centre.states() == Counter(skipped=MANY + 3)


async def test_who_did_what_is_on_record(
    centre: CallCentre, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "alice")
    await add(centre, State.REJECTED, 10)
    await add(centre, State.DELIVERED, 10, settled=NOON + timedelta(seconds=100))
    window = ("--settled-from", "2026-11-20T12:00:05", "--settled-to", "2026-11-20T12:01:43")

    code, *_ = await centre.run("requeue", "--state", "rejected", "--state", "delivered", *window)
    assert code == 0
    # Of each kind those that were settled from 12:00:05 on, and before 12:01:43.
    assert await centre.states() == Counter(rejected=4, pending=6 + 2, delivered=8)
    monkeypatch.setenv("SUDO_USER", "bob")
    await centre.run("discard", "--state", "pending", "--call-id", "10")
    await centre.run("discard", "--state", "rejected", "--call-id", "10")
    await centre.run("pause", "--reason", "release tonight")

    host = socket.gethostname()
    acts = await centre.db.fetch("SELECT kind, who, lines, ended_at FROM act ORDER BY id")
    assert [tuple(act)[:3] for act in acts] == [
        ("requeue", f"alice@{host}", 8),
        ("discard", f"bob@{host}", 1),
        ("pause", f"bob@{host}", 0),
    ]
    assert all(act["ended_at"] for act in acts)

    _, text, _ = await centre.run("status")
    assert f"bob@{host}: pause --reason 'release tonight'" in text
    assert f"bob@{host}: discard --state pending --call-id 10, 1 line" in text
    assert ": requeue" not in text
    _, text, _ = await centre.run("show", "10")
    assert f"withdrawn by bob@{host} at 20" in text
    _, text, _ = await centre.run("show", "9")
    assert f"pending: put back by alice@{host} at 20" in text
    told = await centre.run_json("show", "9")
    assert f"Put back by alice@{host} at 20" in told["note"]
    assert told["lines"][0].keys().isdisjoint({"act", "act_id"})


@pytest.mark.parametrize(
    "arguments",
    [
        ("discard", "--state", "delivered", "--yes"),
        ("requeue", "--state", "delivered", "--yes"),
        ("requeue", "--state", "expired", "--settled-from", "2026-11-20", "--settled-to", "soon"),
        ("discard", "--state", "expired", *SETTLED_BACKWARDS),
        ("requeue", "--state", "rejected", "--call-id", str(-(2**63) - 1)),
        ("show", "--", str(-(2**63) - 1)),
    ],
)  # fmt: skip
async def test_a_wrong_use_is_2_and_changes_nothing(
    centre: CallCentre, arguments: tuple[str, ...]
) -> None:
    await add(centre, State.DELIVERED, 1)
    code, output, errors = await centre.run(*arguments)
    assert (code, output) == (2, "")
    assert "cannot be used" not in errors
    assert await centre.states() == Counter(delivered=1)


async def test_an_id_as_low_as_can_be_is_asked_for(centre: CallCentre) -> None:
    code, output, errors = await centre.run("show", "--json", "--", str(-(2**63)))
    assert (code, errors) == (0, "")
    assert json.loads(output)["call_id"] == -(2**63)


async def test_ctrl_c_says_how_many_were_put_back(centre: CallCentre) -> None:
    """The second batch waits for a lock, so that there is time to press it."""
    await add(centre, State.REJECTED, 3 * BATCH)
    other = await lock(centre, BATCH + 1)
    process = await centre.start("requeue", "--state", "rejected", "--yes")
    try:
        async with asyncio.timeout(PATIENCE):
            while await centre.db.fetchval("SELECT max(lines) FROM act") != BATCH:
                await asyncio.sleep(0.02)
            while not await centre.db.fetchval(WAITING):
                await asyncio.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            while b"daemon.stopping" not in await process.stderr.readline():
                pass
    finally:
        await other.close()
    async with asyncio.timeout(PATIENCE):
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert "Interrupted: 2,000 lines are sent again so far" in errors.decode()
    assert await centre.states() == Counter(pending=2 * BATCH, rejected=BATCH)
    act = await centre.db.fetchrow("SELECT lines, ended_at FROM act")
    assert tuple(act) == (2 * BATCH, None)


async def lock(centre: CallCentre, call_id: int) -> Any:
    """A session that keeps a line locked until it is closed."""
    import asyncpg

    connection = await asyncpg.connect(centre.dsn)
    await connection.execute("BEGIN")
    await connection.execute(f"SELECT FROM callstatsd.line WHERE call_id = {call_id} FOR UPDATE")
    return connection
