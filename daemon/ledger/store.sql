-- The daemon's own tables, found through search_path.

-- name: version
-- The revision that migrations brought this ledger to; no row where there is no ledger.
SELECT version_num FROM alembic_version

-- name: migrated
-- Whether the ledger's tables can be seen at all.
SELECT to_regclass('alembic_version') IS NOT NULL AND to_regclass('ledger') IS NOT NULL

-- name: encoding
-- What the ledger's database can hold.
SELECT current_setting('server_encoding')

-- name: lacking_rights
-- Tables of the ledger that this session may not change, NULL if none; a server that is read only
-- lets nobody change any.
SELECT CASE
    WHEN pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'
    THEN 'a primary that is not read only, and SELECT, INSERT, UPDATE, DELETE'
    ELSE (
        SELECT 'SELECT, INSERT, UPDATE, DELETE'
        FROM unnest(ARRAY['ledger', 'line', 'lane', 'instance', 'streak', 'act']) AS t (name)
        WHERE NOT has_table_privilege(t.name, 'SELECT')
           OR NOT has_table_privilege(t.name, 'INSERT')
           OR NOT has_table_privilege(t.name, 'UPDATE')
           OR NOT has_table_privilege(t.name, 'DELETE')
        LIMIT 1
    )
END

-- name: may_create
-- Whether this user may create the schema $1, or tables in it.
SELECT CASE WHEN EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)
            THEN has_schema_privilege($1, 'CREATE')
            ELSE has_database_privilege(current_database(), 'CREATE') END

-- name: binding
-- Whose calls this ledger holds; bound_at is NULL before the first `migrate`.
SELECT clients_id, source_database, source_schemas, bound_at FROM ledger

-- name: bind
-- Bind to client $1, source database $2 and schemas $3, if unbound or told to ($4).
UPDATE ledger SET clients_id = $1, source_database = $2, source_schemas = $3, bound_at = now()
WHERE bound_at IS NULL OR $4

-- name: progress
-- How far calls are taken.
SELECT start_from, watermark, never_ended_until, swept_at, pruned_before, endpoint_proven
FROM ledger

-- name: start
-- Keep START_FROM $1 and the first watermark $2, at the first start only.
UPDATE ledger SET start_from = $1, watermark = $2 WHERE start_from IS NULL

-- name: in_bulk
-- For the rest of this transaction: join many lines at once, and find them by index. A planner that
-- has no statistics, or expects few lines of each call, would compare each with each.
SET LOCAL enable_nestloop = off; SET LOCAL enable_seqscan = off; SET LOCAL jit = off

-- name: take
-- Insert new lines (parallel arrays), from a backfill or not ($12), which is the act $13 (NULL:
-- none); what is there is left alone, also where its code is on another leg by now, its leg in another
-- group, or its leg without the code that it had. Returns the keys that were new.
WITH known AS MATERIALIZED (
    SELECT call_id, leg_id, code_id FROM line WHERE call_id = ANY ($1::bigint[])
)
INSERT INTO line (call_id, group_id, leg_id, code_id, ordinal, lane, salesforce_id, call_ended,
                  backfill, state, record, last_error, settled_at, act_id)
SELECT n.call_id, n.group_id, n.leg_id, n.code_id, n.ordinal, n.lane, n.salesforce_id,
       n.call_ended, $12::boolean, n.state, n.record, n.last_error,
       CASE WHEN n.state <> 'pending' THEN now() END, $13::bigint
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::integer[], $6::text[],
            $7::text[], $8::timestamptz[], $9::text[], $10::text[], $11::text[])
     AS n (call_id, group_id, leg_id, code_id, ordinal, lane, salesforce_id, call_ended, state,
           record, last_error)
WHERE NOT EXISTS (
    SELECT FROM known AS k
    WHERE k.call_id = n.call_id AND k.code_id = nullif(n.code_id, 0) AND k.leg_id <> n.leg_id
)
AND NOT EXISTS (
    SELECT FROM known AS k
    WHERE k.call_id = n.call_id
      AND k.leg_id = CASE WHEN n.code_id = 0 THEN nullif(n.leg_id, 0) END
)
ON CONFLICT DO NOTHING
RETURNING call_id, group_id, leg_id, code_id

-- name: advance
-- Move the watermark to $1, and that of calls without an end to $2, forward only.
UPDATE ledger
SET watermark = greatest(watermark, $1), never_ended_until = greatest(never_ended_until, $2)
WHERE watermark < $1 OR never_ended_until < $2 OR never_ended_until IS NULL AND $2 IS NOT NULL

-- name: swept
-- A sweep of LOOKBACK has been completed up to $1.
UPDATE ledger SET swept_at = $1

-- name: without_id
-- Skipped lines that had no Salesforce id ($2 is the reason that they carry), of calls that ended at
-- $1 or later or taken since then, and never of calls from before the floor $8; the next $7 after
-- the key ($3, $4, $5, $6).
SELECT call_id, group_id, leg_id, code_id
FROM line
WHERE state = 'skipped' AND last_error = $2 AND (call_ended >= $1 OR settled_at >= $1)
  AND call_ended >= $8
  AND (call_id, group_id, leg_id, code_id) > ($3::bigint, $4::bigint, $5::bigint, $6::bigint)
ORDER BY call_id, group_id, leg_id, code_id
LIMIT $7

-- name: identify
-- Skipped lines that have an id by now become pending (parallel arrays as in take; $12 is the
-- reason that they carried). Returns their keys.
UPDATE line AS l
SET state = n.state, record = n.record, lane = n.lane, salesforce_id = n.salesforce_id,
    last_error = n.last_error, pending_since = now(),
    settled_at = CASE WHEN n.state <> 'pending' THEN now() END
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::integer[], $6::text[],
            $7::text[], $8::timestamptz[], $9::text[], $10::text[], $11::text[])
     AS n (call_id, group_id, leg_id, code_id, ordinal, lane, salesforce_id, call_ended, state,
           record, last_error)
WHERE (l.call_id, l.group_id, l.leg_id, l.code_id)
    = (n.call_id, n.group_id, n.leg_id, n.code_id)
  AND l.state = 'skipped' AND l.last_error = $12
RETURNING l.call_id, l.group_id, l.leg_id, l.code_id

-- name: pull_back
-- Set a watermark that lies ahead of the source's clock back to $1, that of calls without an end to $2.
UPDATE ledger SET watermark = $1, never_ended_until = least(never_ended_until, $2)
WHERE watermark > $1

-- name: in_order
-- For the rest of this transaction: take from an index what is wanted in order. A planner that
-- expects few pending lines would sort all of a backlog to return its first.
SET LOCAL enable_sort = off; SET LOCAL jit = off

-- name: pending
-- The next $1 lines to send, live before backfill, in order; without lines that wait for their
-- next try, lines of records that are held back, and lines of the lanes $2.
SELECT l.call_id, l.group_id, l.leg_id, l.code_id, l.generation, l.backfill, l.call_ended,
       l.ordinal, l.lane, l.salesforce_id, l.record, l.attempts, l.tries,
       coalesce(k.tries, 0) AS lane_tries
FROM line AS l
LEFT JOIN lane AS k ON k.lane = l.lane
WHERE l.state = 'pending'
  AND (l.next_try_at IS NULL OR l.next_try_at <= now())
  AND (k.until IS NULL OR k.until <= now())
  AND l.lane <> ALL ($2::text[])
ORDER BY l.backfill, l.call_ended, l.call_id, l.ordinal
LIMIT $1

-- name: newest
-- The place of the last of $2 pending lines, newest first from before the place ($3, $4, $5) on, live
-- or from backfills ($1); beside it the newest of them that may be sent now, is the first of its
-- record, and has not failed as a probe in the present pause. Each record is looked up once, newest
-- first until one is found (OFFSET 0), among its own lines ('pending' hidden from the planner).
WITH page AS MATERIALIZED (
    SELECT call_id, group_id, leg_id, code_id, backfill, call_ended, ordinal, lane, next_try_at,
           probe_failed_at
    FROM line
    WHERE state = 'pending' AND backfill = $1::boolean
      AND ($3::timestamptz IS NULL
           OR (call_ended, call_id, ordinal) < ($3::timestamptz, $4::bigint, $5::integer))
    ORDER BY call_ended DESC, call_id DESC, ordinal DESC
    LIMIT $2
)
SELECT p.call_ended AS last_ended, p.call_id AS last_call, p.ordinal AS last_ordinal, f.*
FROM (SELECT * FROM page ORDER BY call_ended, call_id, ordinal LIMIT 1) AS p
LEFT JOIN LATERAL (
    SELECT l.call_id, l.group_id, l.leg_id, l.code_id, l.generation, l.backfill, l.call_ended,
           l.ordinal, l.lane, l.salesforce_id, l.record, l.attempts, l.tries,
           coalesce(k.tries, 0) AS lane_tries
    FROM (
        SELECT o.*
        FROM (
            SELECT DISTINCT ON (lane) *
            FROM page
            ORDER BY lane, call_ended, call_id, ordinal, group_id, leg_id, code_id
        ) AS o
        ORDER BY o.call_ended DESC, o.call_id DESC, o.ordinal DESC
        OFFSET 0
    ) AS n
    JOIN line AS l USING (call_id, group_id, leg_id, code_id)
    LEFT JOIN lane AS k ON k.lane = n.lane
    WHERE (n.next_try_at IS NULL OR n.next_try_at <= now())
      AND (k.until IS NULL OR k.until <= now())
      AND (n.probe_failed_at > (SELECT max(until) FROM streak WHERE ended_at IS NULL)) IS NOT TRUE
      AND NOT EXISTS (
          SELECT FROM line AS e
          WHERE e.lane = n.lane AND e.state = (SELECT 'pending')
            AND (e.backfill, e.call_ended, e.call_id, e.ordinal, e.group_id, e.leg_id, e.code_id)
              < (n.backfill, n.call_ended, n.call_id, n.ordinal, n.group_id, n.leg_id, n.code_id)
          OFFSET 0
      )
    ORDER BY n.call_ended DESC, n.call_id DESC, n.ordinal DESC
    LIMIT 1
) AS f ON true

-- name: settle
-- Write what came of attempts (parallel arrays $1 to $13), unless a person intervened since; hold
-- the lanes $15 for $16 seconds after $17 tries, and free the lanes $18, whose records answer
-- again. A failed line expires $14 seconds after its first attempt, by a clock that stands while
-- the sender pauses. Returns what became of each. Its 'pending' is hidden from the planner, which
-- would read the whole backlog by its own index where it believes that to be small.
WITH sending AS (
    SELECT extract(epoch FROM coalesce(paused_since, now())) - paused_seconds AS clock FROM ledger
),
settled AS (
    UPDATE line AS l
    SET state = CASE WHEN o.failed AND sending.clock - l.first_try >= $14 THEN 'expired'
                     ELSE o.state END,
        settled_at = CASE WHEN o.state <> 'pending'
                          OR o.failed AND sending.clock - l.first_try >= $14 THEN now() END,
        attempts = l.attempts + o.sent::integer,
        tries = l.tries + o.failed::integer,
        unanswered = l.unanswered + o.unanswered::integer,
        first_try = CASE WHEN o.sent THEN coalesce(l.first_try, sending.clock - o.age)
                         ELSE l.first_try END,
        last_status = CASE WHEN o.sent THEN o.status ELSE l.last_status END,
        last_error = o.error,
        next_try_at = now() + make_interval(secs => o.wait)
    FROM sending,
         unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::integer[], $6::text[],
                $7::boolean[], $8::boolean[], $9::boolean[], $10::integer[], $11::text[],
                $12::double precision[], $13::double precision[])
         AS o (call_id, group_id, leg_id, code_id, generation, state,
               sent, failed, unanswered, status, error, age, wait)
    WHERE (l.call_id, l.group_id, l.leg_id, l.code_id)
        = (o.call_id, o.group_id, o.leg_id, o.code_id)
      AND l.generation = o.generation AND l.state = (SELECT 'pending')
    RETURNING l.call_id, l.group_id, l.leg_id, l.code_id, l.state, l.attempts
),
delivered AS (
    UPDATE ledger SET delivered_at = now()
    WHERE EXISTS (SELECT FROM settled WHERE state = 'delivered')
),
held AS (
    INSERT INTO lane (lane, until, tries)
    SELECT n.lane, now() + make_interval(secs => n.wait), n.tries
    FROM unnest($15::text[], $16::double precision[], $17::integer[]) AS n (lane, wait, tries)
    ON CONFLICT (lane) DO UPDATE SET until = excluded.until, tries = excluded.tries
),
freed AS (
    DELETE FROM lane WHERE lane = ANY ($18::text[])
)
SELECT call_id, group_id, leg_id, code_id, state, attempts FROM settled

-- name: settle_void
-- Note attempts at lines that a person changed meanwhile (parallel arrays): their state stays.
UPDATE line AS l
SET attempts = l.attempts + 1, unanswered = l.unanswered + o.unanswered::integer,
    last_status = o.status
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::integer[],
            $6::boolean[], $7::integer[])
     AS o (call_id, group_id, leg_id, code_id, generation, unanswered, status)
WHERE (l.call_id, l.group_id, l.leg_id, l.code_id)
    = (o.call_id, o.group_id, o.leg_id, o.code_id)
  AND l.generation > o.generation

-- name: pause_began
-- The sender pauses; from now on no time counts against any line.
UPDATE ledger SET paused_since = now() WHERE paused_since IS NULL

-- name: pause_ended
-- The sender goes on.
UPDATE ledger
SET paused_seconds = paused_seconds + extract(epoch FROM now() - paused_since),
    paused_since = NULL
WHERE paused_since IS NOT NULL

-- name: proven
-- The endpoint has written (or judged) a line for the first time.
UPDATE ledger SET endpoint_proven = true WHERE NOT endpoint_proven

-- name: streak_began
-- The sender pauses because the endpoint fails. The streak is what was refused since the first of
-- the lines $1…; where the endpoint refused none, it is this moment.
INSERT INTO streak (since, until)
SELECT coalesce(min(settled_at), now()), coalesce(max(settled_at), now())
FROM line
WHERE state IN ('rejected', 'not_found') AND settled_at >= (
    SELECT min(l.settled_at)
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
         AS k (call_id, group_id, leg_id, code_id)
    JOIN line AS l USING (call_id, group_id, leg_id, code_id)
    WHERE l.state IN ('rejected', 'not_found')
)

-- name: streak_ended
-- The endpoint works again: returns the streak's window, and how many of its lines stay refused.
WITH ended AS (
    UPDATE streak SET ended_at = now() WHERE ended_at IS NULL RETURNING since, until
)
SELECT w.since, w.until, n.rejected, n.not_found
FROM (SELECT min(since) AS since, max(until) AS until FROM ended) AS w
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE state = 'rejected') AS rejected,
           count(*) FILTER (WHERE state = 'not_found') AS not_found
    FROM line
    WHERE state IN ('rejected', 'not_found') AND settled_at BETWEEN w.since AND w.until
) AS n
WHERE w.since IS NOT NULL

-- name: streak_lasts
-- Whether the sender pauses because the endpoint fails, also if nobody sends at the moment.
SELECT EXISTS (SELECT FROM streak WHERE ended_at IS NULL)

-- name: probe_failed
-- The line $1… was sent while the endpoint failed, and got no better answer.
UPDATE line SET probe_failed_at = now()
WHERE (call_id, group_id, leg_id, code_id) = ($1, $2, $3, $4)

-- name: refused_last
-- The $1 lines that Salesforce refused last, newest first: since the last delivery and the last
-- streak.
SELECT call_id, group_id, leg_id, code_id, lane, state, last_status
FROM line
WHERE state IN ('conflict', 'not_found', 'rejected')
  AND settled_at > coalesce((SELECT delivered_at FROM ledger), '-infinity')
  AND settled_at > coalesce((SELECT max(greatest(until, ended_at)) FROM streak), '-infinity')
ORDER BY settled_at DESC
LIMIT $1

-- name: prune_streaks
-- Forget streaks that are over and whose lines were all sent again or withdrawn.
DELETE FROM streak AS s
WHERE s.ended_at IS NOT NULL AND NOT EXISTS (
    SELECT FROM line
    WHERE state IN ('rejected', 'not_found') AND settled_at BETWEEN s.since AND s.until
    OFFSET 0
)

-- name: succeed
-- Take the instance's row over for the lease $1 of the ledger with the oid $2, from the lease $3 and
-- from no other; remember when the instance before this one did not stop in order.
UPDATE instance
SET lease = $1, ledger_oid = $2, stopped_at = NULL,
    unclean_at = CASE WHEN stopped_at IS NULL THEN now() ELSE unclean_at END
WHERE lease IS NOT DISTINCT FROM $3

-- name: write_heartbeat
-- What the active instance is doing: host, pid, version, seconds since start, state, reason,
-- seconds until it tries again, whether it has stopped; its lease $9 of the ledger with the oid $10;
-- the last act whose probe this answers. No row while another lease owns the instance's row.
INSERT INTO instance (host, pid, version, started_at, beat_at, state, reason, retry_at, stopped_at,
                      lease, ledger_oid, probe_answered)
VALUES ($1, $2, $3, now() - make_interval(secs => $4), now(), $5, $6,
        now() + make_interval(secs => $7), CASE WHEN $8 THEN now() END, $9, $10, $11)
ON CONFLICT (single) DO UPDATE
SET host = excluded.host, pid = excluded.pid, version = excluded.version,
    started_at = excluded.started_at, beat_at = excluded.beat_at, state = excluded.state,
    reason = excluded.reason, retry_at = excluded.retry_at, stopped_at = excluded.stopped_at,
    probe_answered = excluded.probe_answered
WHERE instance.lease IS NOT DISTINCT FROM excluded.lease
RETURNING true

-- name: wishes
-- What people want of the active instance: an operator's pause, the latest act that asked for a try
-- at once, and whether a migration waits to upgrade the ledger (its lock's class is above $1, that
-- of our own version, and at most $2).
SELECT held_since, held_reason, probe_requested, EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid > $1::integer::oid AND classid <= $2::integer::oid
      AND objid = 'ledger'::regclass::oid AND objsubid = 2
) AS upgrade
FROM ledger

-- name: lock
-- Try to become the one active instance of this ledger ($1 is the lock's class); the key is the
-- ledger table's own oid. No row while a restore or a migration has not come to its end: a restore
-- adds primary keys after all data. Names are looked up as the statement runs, never kept.
SELECT l.oid::oid AS ledger_oid,
       pg_try_advisory_lock($1::integer, l.oid::oid::bigint::bit(32)::integer) AS acquired
FROM to_regclass('ledger') AS l (oid)
WHERE EXISTS (SELECT FROM pg_index WHERE indrelid = to_regclass('line') AND indisprimary)
  AND EXISTS (SELECT FROM ledger WHERE bound_at IS NOT NULL)

-- name: last_holder
-- Whose the instance's row is, and of which ledger; whether it has stopped in order.
SELECT lease, ledger_oid, stopped_at IS NOT NULL AS stopped FROM instance

-- name: lock_patiently
-- Wait to become the one that has this ledger, before all who only try; likewise.
SELECT pg_advisory_lock($1::integer, 'ledger'::regclass::oid::bigint::bit(32)::integer)

-- name: announce_upgrade
-- Say, for as long as the session lives, that a migration waits ($1 is the class with its version).
SELECT pg_advisory_lock_shared($1::integer, 'ledger'::regclass::oid::bigint::bit(32)::integer)

-- name: instance
-- The instance that says that it has the ledger; no row where the last one stopped in order.
SELECT host, pid FROM instance WHERE stopped_at IS NULL

-- name: ping
-- Show the server that the holder of the lock lives, and the holder that its session does, and which
-- tables it is about, NULL if none. It must wait for nobody: it locks no table.
SELECT to_regclass('ledger')::oid

-- name: lock_retention
-- Let nothing be pruned for as long as the session lives ($1 is the lock's class).
SELECT pg_advisory_lock_shared($1::integer, 'ledger'::regclass::oid::bigint::bit(32)::integer)

-- name: may_prune
-- Whether nobody keeps all; holds for this transaction.
SELECT pg_try_advisory_xact_lock($1::integer, 'ledger'::regclass::oid::bigint::bit(32)::integer)

-- name: prune
-- Remove $2 lines that were settled $1 seconds ago and need no operator, and remember up to where:
-- never beyond the watermark, because nothing older is taken any more.
WITH gone AS (
    DELETE FROM line
    WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM line
        WHERE settled_at < now() - make_interval(secs => $1)
          AND state IN ('delivered', 'conflict', 'not_found', 'skipped')
          AND (call_ended <= coalesce((SELECT watermark FROM ledger), 'infinity')) IS TRUE
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING call_ended
),
marked AS (
    UPDATE ledger
    SET pruned_before = greatest(pruned_before, (SELECT max(call_ended) FROM gone))
    WHERE EXISTS (SELECT FROM gone)
)
SELECT count(*) FROM gone

-- name: drop_records
-- Drop the records of $2 lines that were settled $1 seconds ago and need no operator, and what the
-- endpoint said of them, which may name somebody; once none is left, remember up to when, so that
-- lines without a record are not read again.
WITH dropped AS (
    UPDATE line SET record = NULL,
                    last_error = CASE WHEN state = 'skipped' THEN last_error END
    WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM line
        WHERE settled_at < now() - make_interval(secs => $1) AND record IS NOT NULL
          AND settled_at >= coalesce((SELECT dropped_before FROM ledger), '-infinity')
          AND state IN ('delivered', 'conflict', 'not_found', 'skipped')
        LIMIT $2
        FOR UPDATE
    ))
    RETURNING 1
),
marked AS (
    UPDATE ledger SET dropped_before = now() - make_interval(secs => $1)
    WHERE NOT EXISTS (SELECT FROM dropped)
)
SELECT count(*) FROM dropped

-- name: count_act
-- $2 more lines were changed by the act $1.
UPDATE act SET lines = lines + $2 WHERE id = $1

-- name: prune_acts
-- Remove $2 acts that began $1 seconds ago and that no line refers to (OFFSET 0: look it up act by
-- act, never join with all lines); not the pause that still holds.
WITH gone AS (
    DELETE FROM act
    WHERE id = ANY (ARRAY(
        SELECT a.id FROM act AS a
        WHERE a.began_at < now() - make_interval(secs => $1)
          AND NOT EXISTS (SELECT FROM line AS l WHERE l.act_id = a.id OFFSET 0)
          AND NOT (a.kind = 'pause'
                   AND a.began_at >= coalesce((SELECT held_since FROM ledger), 'infinity'))
        ORDER BY a.id
        LIMIT $2
    ))
    RETURNING 1
)
SELECT count(*) FROM gone

-- name: prune_lanes
-- Remove $1 records that hold nothing back any more: an operator withdrew what waited for them. Its
-- 'pending' is hidden from the planner, which would read the whole backlog for each record.
WITH gone AS (
    DELETE FROM lane WHERE lane IN (
        SELECT k.lane FROM lane AS k
        WHERE k.until < now()
          AND NOT EXISTS (
              SELECT FROM line AS l WHERE l.lane = k.lane AND l.state = (SELECT 'pending') OFFSET 0
          )
        LIMIT $1
    )
    RETURNING 1
)
SELECT count(*) FROM gone

-- name: notify
-- Tell the instance that holds this ledger to look again.
SELECT pg_notify('callstatsd_' || 'ledger'::regclass::oid, '')

-- name: channel
-- Where that instance listens, and of which ledger that is.
SELECT 'callstatsd_' || l.oid::oid AS channel, l.oid::oid AS ledger_oid
FROM CAST('ledger' AS regclass) AS l (oid)

-- name: announce_daemon
-- Say, for as long as the session lives, that a `run` wants this ledger.
SELECT pg_advisory_lock_shared($1::integer, 'ledger'::regclass::oid::bigint::bit(32)::integer)

-- name: daemon_waiting
-- Whether any session says so.
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid = $1::integer::oid AND objid = 'ledger'::regclass::oid AND objsubid = 2
)

-- name: digest
-- How many lines the calls $1 have, and the sum of their keys' hashes.
SELECT count(*) AS lines,
       sum(hashint8extended(
           hash_record_extended(ROW (call_id, group_id, leg_id, code_id), 0), 0
       )) AS digest
FROM line WHERE call_id = ANY ($1::bigint[])

-- name: settled_keys
-- Which lines of the calls $1 are not pending.
SELECT call_id, group_id, leg_id, code_id FROM line
WHERE call_id = ANY ($1::bigint[]) AND state <> 'pending'

-- name: known
-- Which of the calls $1 have which lines.
SELECT call_id, group_id, leg_id, code_id FROM line WHERE call_id = ANY ($1::bigint[])
