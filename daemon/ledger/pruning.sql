-- Removal of lines, records and commands after their retention times.

-- name: lock_retention
-- Let nothing be pruned for as long as the session lives ($1 is the lock's class).
SELECT pg_advisory_lock_shared($1::integer, 'ledger'::regclass::oid::bigint::bit(32)::integer)

-- name: may_prune
-- Whether no backfill has locked retention; true until the end of this transaction.
SELECT pg_try_advisory_xact_lock($1::integer, 'ledger'::regclass::oid::bigint::bit(32)::integer)

-- name: prune
-- Remove $2 lines of the feed $3 that were settled $1 seconds ago and need no operator, and
-- remember up to where: never beyond the watermark, because nothing older is taken any more. The
-- oldest of each state are read as line_listed has them: where none is old enough, no line is.
WITH gone AS (
    DELETE FROM line
    WHERE ctid = ANY (ARRAY(
        SELECT l.ctid
        FROM unnest(ARRAY['delivered', 'conflict', 'not_found', 'skipped']) AS s (state)
        CROSS JOIN LATERAL (
            SELECT ctid FROM line
            WHERE feed = $3 AND state = s.state AND state <> 'pending'
              AND settled_at < now() - make_interval(secs => $1)
              AND (call_ended <= coalesce(
                      (SELECT watermark FROM feed WHERE name = $3), 'infinity'
                  )) IS TRUE
            ORDER BY settled_at
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        ) AS l
        LIMIT $2
    ))
    RETURNING call_ended
),
marked AS (
    UPDATE feed
    SET pruned_before = greatest(pruned_before, (SELECT max(call_ended) FROM gone))
    WHERE name = $3 AND EXISTS (SELECT FROM gone)
)
SELECT count(*) FROM gone

-- name: drop_records
-- Drop the records of $2 lines of the feed $3 that were settled $1 seconds ago and need no
-- operator, and what the endpoint said of them, which may name somebody; once none is left,
-- remember up to when, so that lines without a record are not read again.
WITH dropped AS (
    UPDATE line SET record = NULL, answer = NULL,
                    last_error = CASE WHEN state = 'skipped' THEN last_error END
    WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM line
        WHERE settled_at < now() - make_interval(secs => $1) AND record IS NOT NULL
          AND feed = $3
          AND settled_at >= coalesce(
                  (SELECT dropped_before FROM feed WHERE name = $3), '-infinity'
              )
          AND state IN ('delivered', 'conflict', 'not_found', 'skipped')
        LIMIT $2
        FOR UPDATE
    ))
    RETURNING 1
),
marked AS (
    UPDATE feed SET dropped_before = now() - make_interval(secs => $1)
    WHERE name = $3 AND NOT EXISTS (SELECT FROM dropped)
)
SELECT count(*) FROM dropped

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

-- name: prune_streaks
-- Forget streaks that are over and whose lines were all sent again or withdrawn.
DELETE FROM streak AS s
WHERE s.ended_at IS NOT NULL AND NOT EXISTS (
    SELECT FROM line
    WHERE feed = s.feed AND state IN ('rejected', 'not_found')
      AND settled_at BETWEEN s.since AND s.until
    OFFSET 0
)

-- name: prune_alerts
-- Remove $2 alerts that ended $1 seconds ago; never the last, whose number the next one follows.
WITH gone AS (
    DELETE FROM alert
    WHERE number IN (
        SELECT number FROM alert
        WHERE coalesce(raised_at, given_up_at) < now() - make_interval(secs => $1)
          AND number < (SELECT max(number) FROM alert)
        LIMIT $2
    )
    RETURNING 1
)
SELECT count(*) FROM gone
