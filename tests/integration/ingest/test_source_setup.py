"""A source that lacks tables, columns or rights is refused with what is missing."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from daemon.demo.rows import load
from daemon.errors import CallstatsdError, ConfigurationError
from daemon.ingest.readiness import Readiness, Window
from daemon.ingest.source import Source, open_source
from tests.support.expected import BERLIN, data_lines
from tests.support.rows import (
    START,
    at,
    local_times,
    retype,
)
from tests.support.source_reads import SEED_003, TABLES, bodies, ids_of, reading, records


async def test_each_missing_table_is_named(db: asyncpg.Connection, source: Source) -> None:
    for table in TABLES:
        await db.execute(f"ALTER TABLE {table} RENAME TO hidden")
        with pytest.raises(ConfigurationError) as caught:
            await source.prepare()
        (fault,) = caught.value.faults
        assert fault.startswith(f"table {table} is not in the source's jtelstats: ")
        await db.execute(f"ALTER TABLE hidden RENAME TO {table}")
    await source.prepare()


async def test_all_that_is_missing_or_wrong_is_named_at_once(
    db: asyncpg.Connection, source: Source
) -> None:
    await db.execute("DROP TABLE Users")
    await db.execute("ALTER TABLE StatisticsPartB DROP COLUMN CONNRES")
    await db.execute("ALTER TABLE TransactionCodes RENAME ExportKey TO Export_Key")
    await db.execute("ALTER TABLE StatisticsPartA ALTER dtCallEnd TYPE text")
    await db.execute("ALTER TABLE AcdStatisticsPartB ALTER dtGroupStart TYPE date")
    with pytest.raises(ConfigurationError) as caught:
        await source.prepare()
    faults = "\n".join(caught.value.faults)
    assert len(caught.value.faults) == 5
    assert "table Users is not in" in faults
    assert "column StatisticsPartB.CONNRES is missing" in faults
    assert "column TransactionCodes.ExportKey is missing" in faults
    assert "column StatisticsPartA.dtCallEnd is text: it must be timestamptz" in faults
    assert "column AcdStatisticsPartB.dtGroupStart is date: it must be timestamptz" in faults


async def test_columns_that_nothing_reads_may_be_missing(
    db: asyncpg.Connection, source: Source
) -> None:
    await load(db, SEED_003)
    await db.execute("ALTER TABLE StatisticsPartA DROP dtCallAlert, DROP dtCallConnect")
    await source.prepare()
    assert len(await source.lines([1201])) == 5


async def test_tables_are_found_in_the_first_schema_that_has_them(
    dsn: str, db: asyncpg.Connection
) -> None:
    await load(db, SEED_003)
    await db.execute('CREATE SCHEMA "Our Views"')
    await db.execute(
        'CREATE VIEW "Our Views".Users AS SELECT ID, upper(UID) AS UID FROM jtelstats.Users'
    )
    async with open_source(dsn, ("Our Views", "jtelstats"), BERLIN, None) as source:
        lines = await source.lines([1201])
    assert [line.agent_uid for line in lines[:2]] == ["AGENT.W", "AGENT.X"]


@pytest.fixture
async def reader(dsn: str, db: asyncpg.Connection) -> AsyncIterator[str]:
    """The DSN of a role that may log in, and nothing else."""
    name = f"reader_{dsn.partition('?')[0].rpartition('/')[2]}"
    await db.execute(f"CREATE ROLE {name} LOGIN")
    yield dsn.replace("postgres@", f"{name}@")
    await db.execute(f"DROP OWNED BY {name}")
    await db.execute(f"DROP ROLE {name}")


async def test_select_is_enough(db: asyncpg.Connection, reader: str) -> None:
    role = reader.partition("@")[0].rpartition("/")[2]
    await load(db, SEED_003)
    await db.execute(f"GRANT USAGE ON SCHEMA jtelstats TO {role}")
    await db.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA jtelstats TO {role}")
    await db.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on")
    async with reading(reader) as source:
        clock = await source.clock()
        assert not clock.standby
        assert clock.replayed is None
        await source.prepare()
        window = Window(START, at(200))
        assert await ids_of(source.ended(window)) == [1201]
        assert await ids_of(source.never_ended(window)) == []
        ready = Readiness(at(120), START, START)
        assert await ids_of(source.late_codes(Window(at(130), at(200)), ready)) == [4203]
        assert len(await source.lines([1201])) == 5


async def test_a_table_that_may_not_be_read_is_a_fault_of_the_set_up(
    db: asyncpg.Connection, reader: str
) -> None:
    role = reader.partition("@")[0].rpartition("/")[2]
    async with reading(reader) as source:
        with pytest.raises(ConfigurationError, match="table StatisticsPartA is not in"):
            await source.prepare()
    await db.execute(f"GRANT USAGE ON SCHEMA jtelstats TO {role}")
    await db.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA jtelstats TO {role}")
    await db.execute(f"REVOKE SELECT ON Users FROM {role}")
    async with reading(reader) as source:
        with pytest.raises(CallstatsdError, match="permission denied for table users") as caught:
            await source.lines([1])
        assert caught.value.exit_code == 78


async def test_our_sessions_cannot_write(source: Source) -> None:
    async with source.database.connection() as connection:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("DELETE FROM Users")


@pytest.mark.parametrize("change", ["DROP TABLE Users", "ALTER TABLE Users RENAME UID TO LoginUID"])
async def test_a_schema_that_changes_while_we_run_is_a_fault_of_the_set_up(
    db: asyncpg.Connection, source: Source, change: str
) -> None:
    await load(db, SEED_003)
    assert len(await source.lines([1201])) == 5
    await db.execute(change)
    with pytest.raises(CallstatsdError, match="does not exist") as caught:
        await source.lines([1201])
    assert caught.value.exit_code == 78


async def test_a_column_that_changes_its_type_while_we_run_is_read_on(
    db: asyncpg.Connection, source: Source
) -> None:
    await load(db, SEED_003)
    window = Window(START, at(200))
    assert await ids_of(source.ended(window)) == [1201]
    assert len(await source.lines([1201])) == 5
    await local_times(db)
    await retype(db, "StatisticsPartB", "text", "CONNRES")
    assert await ids_of(source.ended(window)) == [1201]
    assert records(await source.lines([1201])) == bodies(data_lines(SEED_003))


async def test_columns_are_shown_with_their_types_in_lower_case(source: Source) -> None:
    columns = await source.columns()
    assert set(columns) == {table.lower() for table in TABLES}
    assert columns["statisticsparta"]["dtcallend"] == "timestamp with time zone"
    assert columns["users"] == {"id": "bigint", "uid": "text", "nickname": "text"}
