-- Lines come into the ledger; how far they are taken.

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

-- name: known
-- Which of the calls $1 have which lines.
SELECT call_id, group_id, leg_id, code_id FROM line WHERE call_id = ANY ($1::bigint[])

-- name: settled_keys
-- Which lines of the calls $1 are not pending.
SELECT call_id, group_id, leg_id, code_id FROM line
WHERE call_id = ANY ($1::bigint[]) AND state <> 'pending'

-- name: digest
-- How many lines the calls $1 have, and the sum of their keys' hashes.
SELECT count(*) AS lines,
       sum(hashint8extended(
           hash_record_extended(ROW (call_id, group_id, leg_id, code_id), 0), 0
       )) AS digest
FROM line WHERE call_id = ANY ($1::bigint[])
