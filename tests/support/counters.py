"""What Postgres counts of its own work: rows and buffers of a database's ordinary tables."""

import asyncio
from dataclasses import dataclass, fields

import asyncpg

from tests.support.daemon_process import PATIENCE

# Both counters are kept per table, so that the catalogues and other databases do not show.
SQL = """
SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint AS rows_read,
       coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint AS rows_written,
       (SELECT coalesce(sum(heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit, 0)
                            + coalesce(idx_blks_read, 0) + coalesce(toast_blks_hit, 0)
                            + coalesce(toast_blks_read, 0) + coalesce(tidx_blks_hit, 0)
                            + coalesce(tidx_blks_read, 0)), 0)
        FROM pg_statio_user_tables)::bigint AS buffers
FROM pg_stat_user_tables
"""
OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@dataclass(frozen=True, slots=True)
class Counters:
    """Rows and 8 kB buffers, found in memory or not."""

    rows_read: int
    rows_written: int
    buffers: int

    def since(self, earlier: "Counters") -> "Counters":
        names = [each.name for each in fields(self)]
        return Counters(*(getattr(self, name) - getattr(earlier, name) for name in names))


async def counters(dsn: str) -> Counters:
    """Read them once nobody else is connected: a backend tells what it did when it ends."""
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(PATIENCE):
            while await connection.fetchval(OTHERS):  # backends tell nobody of their end
                await asyncio.sleep(0.01)
        return Counters(*await connection.fetchrow(SQL))
    finally:
        await connection.close()


async def no_autovacuum(dsn: str) -> None:
    """Keep autovacuum, whose buffers count too, away from this database's tables."""
    connection = await asyncpg.connect(dsn)
    try:
        tables = await connection.fetch("SELECT relid::regclass::text FROM pg_stat_user_tables")
        for (table,) in tables:
            await connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    finally:
        await connection.close()
