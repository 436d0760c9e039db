"""`check` says of callbacks which columns and index their table lacks, where they are on."""

import pytest

from daemon.cli.check import check
from daemon.settings.loading import load_settings
from tests.support.call_centre import CallCentre

INDEX = "ask a DBA to run: CREATE INDEX CONCURRENTLY ON AcdEvents (dtCreated);"


async def callbacks(
    centre: CallCentre, *, url: str = "/services/apexrest/jtelACD/createCallback", client: str = ""
) -> list[tuple[str, str, int]]:
    """Check in this process: the findings about callbacks."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in centre.settings(callback_url=url, clients_id=client).items():
            patch.setenv(name, value)
        settings = load_settings()
    found = [one async for one in check(settings) if one.name == "callbacks"]
    return [(str(one.verdict), one.text, one.exit_code) for one in found]


async def test_nothing_is_said_of_callbacks_that_are_off(centre: CallCentre) -> None:
    await centre.db.execute("DROP TABLE AcdEvents")
    assert await callbacks(centre, url="") == []


async def test_a_table_with_everything_is_right(centre: CallCentre) -> None:
    assert await callbacks(centre) == [("ok", "AcdEvents with all its columns", 0)]


async def test_columns_that_may_be_missing_are_named_and_so_is_an_index(centre: CallCentre) -> None:
    await centre.db.execute(
        "ALTER TABLE AcdEvents DROP COLUMN StatisticsPartAID, DROP COLUMN CreatingUsersID;"
        " ALTER TABLE Users DROP COLUMN NickName; DROP INDEX acdevents_dtcreated"
    )
    (columns, index) = await callbacks(centre)
    assert (columns[0], columns[2]) == ("ok", 0)
    assert columns[1] == (
        "AcdEvents with all its columns, but for AcdEvents.CreatingUsersID, "
        "AcdEvents.StatisticsPartAID, Users.NickName, which count as empty"
    )
    assert (index[0], index[2]) == ("warn", 0)
    assert index[1].endswith(INDEX)


async def test_a_column_that_must_not_be_missing_is_a_fault(centre: CallCentre) -> None:
    await centre.db.execute("ALTER TABLE AcdEvents DROP COLUMN Receiver")
    fault = "column AcdEvents.Receiver is missing: add it, or make a view with it"
    assert await callbacks(centre) == [("fail", fault, 78)]


async def test_of_one_client_check_says_which_requests_are_not_taken(centre: CallCentre) -> None:
    _, client = await callbacks(centre, client="7")
    assert client[1] == (
        "only requests of client 7 are taken; one whose client neither AcdEvents.ClientsID nor "
        "its call names is not"
    )


async def test_check_warns_where_nobody_can_know_whose_the_requests_are(centre: CallCentre) -> None:
    await centre.db.execute(
        "ALTER TABLE AcdEvents DROP COLUMN ClientsID, DROP COLUMN StatisticsPartAID"
    )
    _, client = await callbacks(centre, client="7")
    assert client[0] == "warn"
    assert client[1].startswith("no request is taken: without AcdEvents.ClientsID and")
    assert [one[0] for one in await callbacks(centre)] == ["ok"]
