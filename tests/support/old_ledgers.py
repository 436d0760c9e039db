"""A ledger of version 0002 that is in use, and what is stored of its lines."""

from typing import Any

import asyncpg

from daemon.lines import NO_ID, State

LINES = 100_000


async def fill(db: asyncpg.Connection) -> None:
    """Lines in all states as the program of version 0002 left them, and all that is beside them."""
    await db.execute(
        """
        INSERT INTO line (call_id, group_id, leg_id, code_id, ordinal, lane, salesforce_id,
                          call_ended, backfill, state, generation, record, attempts, tries,
                          unanswered, last_status, last_error, first_try, next_try_at, settled_at)
        SELECT n / 3, n % 3, n % 5, n, 1 + n % 3, (n % 1000)::text, NULL,
               now() - n * interval '7 s', n % 11 = 0, s.state, n % 2, '{"n": 1}', n % 4, n % 3,
               n % 2, CASE WHEN n % 4 > 0 THEN 500 END,
               CASE WHEN s.state <> 'skipped' THEN 'the endpoint said so'
                    WHEN n % 4 = 0 THEN 'discarded by operator'
                    WHEN n % 4 = 1 THEN 'erased on request'
                    ELSE $2 END,
               CASE WHEN n % 4 > 0 THEN 1000 END,
               CASE WHEN n % 7 = 0 THEN now() + interval '1 h' END,
               CASE WHEN s.state <> 'pending' THEN now() - n * interval '5 s' END
        FROM generate_series(1, $1::bigint) AS n
        CROSS JOIN LATERAL (
            SELECT ($3::text[])[1 + n / 16 % cardinality($3::text[])] AS state
        ) AS s
        """,
        LINES,
        NO_ID,
        [state.value for state in State],
    )
    await db.execute(
        """
        UPDATE ledger SET start_from = now() - interval '9 d', watermark = now(),
            never_ended_until = now() - interval '12 h', swept_at = now() - interval '1 min',
            pruned_before = now() - interval '8 d', dropped_before = now() - interval '3 d',
            endpoint_proven = true, delivered_at = now(), paused_since = now(),
            paused_seconds = 12.5, held_since = now(), held_reason = 'maintenance',
            probe_requested = 7, clients_id = 3, source_database = 'acd',
            source_schemas = '{jtelstats}', bound_at = now();
        INSERT INTO lane SELECT n::text, now() + interval '1 h', 2 FROM generate_series(1, 9) AS n;
        INSERT INTO streak (since, until) SELECT now() - interval '1 h', now();
        INSERT INTO act (kind, who) VALUES ('pause', 'alice@acd1');
        """
    )


async def lines_as_stored(db: asyncpg.Connection, columns: str) -> dict[Any, tuple[Any, ...]]:
    """Of each line where it is, who wrote it, and the hash of its columns; by its code's id."""
    rows = await db.fetch(
        "SELECT code_id, ctid::text, xmin::text, hashtextextended((" + columns + ")::text, 0)"
        " FROM line"
    )
    return {row[0]: tuple(row[1:]) for row in rows}


def hashes(lines: dict[Any, tuple[Any, ...]]) -> dict[Any, Any]:
    return {code_id: line[-1] for code_id, line in lines.items()}
