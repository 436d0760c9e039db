"""What people see of lines that a filter keeps out, and how they come back."""

from datetime import UTC, datetime
from typing import Any

import pytest

from daemon.cli.check import check
from daemon.settings.loading import load_settings
from tests.support.call_centre import CallCentre
from tests.support.calls import SERVICE, record_id, seed_003

ENDED = datetime(2026, 11, 20, 9, tzinfo=UTC)
DAY = ("--from", "2026-11-20", "--to", "2026-11-21")
SALES = {"groups": "Sales"}


async def take(centre: CallCentre, *options: str, **settings: str) -> Any:
    return await centre.run_json("backfill", *DAY, *options, **settings)


async def lines(centre: CallCentre) -> dict[str, list[tuple[str, str | None, bool]]]:
    """State, reason and whether there is a record: of the lines of Sales, and of Service."""
    rows = await centre.db.fetch("SELECT * FROM line ORDER BY ordinal")
    groups = {2201: "Sales", 2202: "Service"}
    found: dict[str, list[tuple[str, str | None, bool]]] = {"Sales": [], "Service": []}
    for row in rows:
        answer = (row["state"], row["skip_reason"], row["record"] is not None)
        found[groups[row["group_id"]]].append(answer)
    return found


PENDING = ("pending", None, True)
FILTERED = ("skipped", "filtered", False)


async def test_a_backfill_takes_up_what_the_filter_lets_pass_by_now(centre: CallCentre) -> None:
    await seed_003(centre.db, start=ENDED, record=record_id(1))
    taken = await take(centre, "--no-wait", **SALES)
    assert (taken["lines"], taken["new"], taken["skipped"]) == (5, 5, 3)
    assert await lines(centre) == {"Sales": [PENDING] * 2, "Service": [FILTERED] * 3}

    assert await take(centre, "--dry-run", **SALES) == {"calls": 1, "lines": 5, "new": 0}
    assert (await take(centre, "--no-wait", **SALES))["new"] == 0
    assert await lines(centre) == {"Sales": [PENDING] * 2, "Service": [FILTERED] * 3}

    assert await take(centre, "--dry-run", groups="Ser*") == {"calls": 1, "lines": 5, "new": 3}
    assert (await take(centre, "--no-wait", groups="Ser*"))["new"] == 3
    assert await lines(centre) == {"Sales": [PENDING] * 2, "Service": [PENDING] * 3}
    rows = await centre.db.fetch("SELECT salesforce_id, lane, backfill, generation FROM line")
    assert {tuple(row) for row in rows} == {(record_id(1), record_id(1), True, 0)}
    _, text, _ = await centre.run("show", "1201")
    assert "Sent again" not in text

    delivered = await take(centre)
    assert (delivered["delivered"], delivered["new"]) == (5, 0)
    assert centre.salesforce.repeated == 0


async def test_resend_judges_settled_lines_by_the_filter_of_now(centre: CallCentre) -> None:
    await seed_003(centre.db, start=ENDED, record=record_id(1))
    await take(centre)
    counted = await take(centre, "--resend", "--dry-run", **SALES)
    assert counted == {"calls": 1, "lines": 5, "new": 0, "resent": 2}
    resent = await take(centre, "--resend", "--no-wait", **SALES)
    assert (resent["resent"], resent["pending"], resent["skipped"]) == (2, 2, 3)
    assert await lines(centre) == {"Sales": [PENDING] * 2, "Service": [FILTERED] * 3}
    _, text, _ = await centre.run("show", "1201", **SALES)
    assert "it is not sent again: kept out by CALLSTATSD_GROUPS" in text

    # Without its rows nobody can tell the group of a line, and what was kept out stays so.
    await centre.db.execute("DELETE FROM AcdStatisticsPartB WHERE ID = 2202")
    await centre.db.execute("DELETE FROM StatisticsPartB WHERE AcdStatisticsPartBID = 2202")
    await centre.db.execute("DELETE FROM AcdStatisticsTransactionCodes")
    counted = await take(centre, "--resend", "--dry-run", **SALES)
    resent = await take(centre, "--resend", "--no-wait", **SALES)
    assert counted["resent"] == resent["resent"] == 0
    assert (await lines(centre))["Service"] == [FILTERED] * 3


async def test_requeue_refuses_what_a_filter_has_kept_out(centre: CallCentre) -> None:
    await seed_003(centre.db, start=ENDED, record=None)
    await take(centre, "--no-wait", **SALES)
    assert await lines(centre) == {
        "Sales": [("skipped", "no_id", True)] * 2, "Service": [FILTERED] * 3,
    }  # fmt: skip
    await centre.db.execute("UPDATE StatisticsPartA SET UserData = $1", record_id(1))
    skipped = ("requeue", "--state", "skipped")
    code, output, errors = await centre.run(*skipped, "--dry-run")
    assert (code, output.split()[-1]) == (0, "2")
    assert "3 lines were kept out by a filter and not requeued" in errors
    code, output, errors = await centre.run(*skipped)
    assert (code, output.split()[-2:]) == (0, ["pending", "2"])
    assert await lines(centre) == {"Sales": [PENDING] * 2, "Service": [FILTERED] * 3}

    code, output, errors = await centre.run(*skipped, "--call-id", "1201")
    assert (code, output) == (2, "")
    assert "`callstatsd backfill`" in " ".join(errors.split())
    assert await lines(centre) == {"Sales": [PENDING] * 2, "Service": [FILTERED] * 3}


async def test_show_names_the_setting_that_kept_a_line_out(centre: CallCentre) -> None:
    await seed_003(centre.db, start=ENDED, record=record_id(1))
    await take(centre, "--no-wait", groups="Sales", service_numbers="49800*", direction="inbound")
    code, text, _ = await centre.run("show", "1201")
    assert code == 0
    assert text.count("it was not sent: kept out by CALLSTATSD_GROUPS.") == 3
    assert text.count("`callstatsd backfill --from T --to T`") == 3
    answer = await centre.run_json("show", "1201")
    shown = answer["lines"][2]
    assert (shown["state"], shown["record"]) == ("skipped", None)
    assert shown["last_error"] == "kept out by CALLSTATSD_GROUPS"
    assert await centre.run_json("show", "--salesforce-id", record_id(1)) == [answer]


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({}, []),
        ({"direction": "outbound"}, []),
        ({"groups": "Sales,Serv*", "service_numbers": f"{SERVICE},Sales hot*"}, [("ok", "each")]),
        (
            {"groups": "Sales,Lager", "service_numbers": "4911*,*"},
            [("warn", "'4911*' in CALLSTATSD_SERVICE_NUMBERS matches no name in ServiceNumbers"),
             ("warn", "'Lager' in CALLSTATSD_GROUPS matches no name in AcdGroups")],
        ),
    ],
)  # fmt: skip
async def test_check_warns_of_names_that_the_acd_does_not_have(
    centre: CallCentre, settings: dict[str, str], found: list[tuple[str, str]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in centre.settings(**settings).items():
            patch.setenv(name, value)
        read = load_settings()
    findings = [one async for one in check(read) if one.name == "filters"]
    assert [str(one.verdict) for one in findings] == [verdict for verdict, _ in found]
    assert all(words in one.text for one, (_, words) in zip(findings, found, strict=True))
