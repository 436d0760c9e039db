-- Inserting new lines, and how far lines are taken.

-- name: progress
-- How far the lines of the feed $1 are taken.
SELECT start_from, watermark, never_ended_until, swept_at, pruned_before, endpoint_proven
FROM feed WHERE name = $1

-- name: start
-- Keep START_FROM $2 and the first watermark $3 of the feed $1, at the first start only.
INSERT INTO feed AS f (name, start_from, watermark) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET start_from = excluded.start_from, watermark = excluded.watermark
WHERE f.start_from IS NULL

-- name: in_bulk
-- For the rest of this transaction: join many lines at once, and find them by index. A planner that
-- has no statistics, or expects few lines of each call, would compare each with each.
SET LOCAL enable_nestloop = off; SET LOCAL enable_seqscan = off; SET LOCAL jit = off

-- name: take
-- Insert new lines of the feed $15 (parallel arrays), from a backfill or not ($13), which is the
-- act $14 (NULL: none); what is there is left alone, also where its code is on another leg by now,
-- its leg in another group, or its leg without the code that it had. Returns the keys that were
-- new.
WITH known AS MATERIALIZED (
    SELECT call_id, leg_id, code_id FROM line
    WHERE call_id = ANY ($1::bigint[]) AND feed = $15::text
)
INSERT INTO line (call_id, group_id, leg_id, code_id, feed, ordinal, lane, salesforce_id,
                  call_ended, backfill, state, record, last_error, skip_reason, settled_at, act_id)
SELECT n.call_id, n.group_id, n.leg_id, n.code_id, $15::text, n.ordinal, n.lane, n.salesforce_id,
       n.call_ended, $13::boolean, n.state, n.record, n.last_error, n.skip_reason,
       CASE WHEN n.state <> 'pending' THEN now() END, $14::bigint
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::integer[], $6::text[],
            $7::text[], $8::timestamptz[], $9::text[], $10::text[], $11::text[], $12::text[])
     AS n (call_id, group_id, leg_id, code_id, ordinal, lane, salesforce_id, call_ended, state,
           record, last_error, skip_reason)
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
-- Move the watermark of the feed $1 to $2, and that of calls without an end to $3, forward only.
UPDATE feed
SET watermark = greatest(watermark, $2), never_ended_until = greatest(never_ended_until, $3)
WHERE name = $1
  AND (watermark < $2 OR never_ended_until < $3 OR never_ended_until IS NULL AND $3 IS NOT NULL)

-- name: swept
-- A sweep of LOOKBACK over the feed $1 has been completed up to $2.
UPDATE feed SET swept_at = $2 WHERE name = $1

-- name: without_id
-- Lines of the feed $9 that were skipped for the reason $2, of calls that ended at $1 or later or
-- taken since then, and never of calls from before the floor $8; the next $7 after the key ($3, $4,
-- $5, $6). Here and below 'skipped' is hidden from the planner, which would read all lines that ever
-- were where it believes them to be few.
SELECT call_id, group_id, leg_id, code_id
FROM line
WHERE state = (SELECT 'skipped') AND skip_reason = $2
  AND (call_ended >= $1 OR settled_at >= $1)
  AND call_ended >= $8 AND feed = $9
  AND (call_id, group_id, leg_id, code_id) > ($3::bigint, $4::bigint, $5::bigint, $6::bigint)
ORDER BY call_id, group_id, leg_id, code_id
LIMIT $7

-- name: identify
-- Lines of the feed $14 that were skipped for the reason $13 go into the state that they call for
-- by now (parallel arrays as in take). Returns their keys.
UPDATE line AS l
SET state = n.state, record = n.record, lane = n.lane, salesforce_id = n.salesforce_id,
    last_error = n.last_error, skip_reason = n.skip_reason, pending_since = now(),
    settled_at = CASE WHEN n.state <> 'pending' THEN now() END
FROM (SELECT *, $14::text AS feed
      FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::integer[], $6::text[],
            $7::text[], $8::timestamptz[], $9::text[], $10::text[], $11::text[], $12::text[])
     AS given (call_id, group_id, leg_id, code_id, ordinal, lane, salesforce_id, call_ended, state,
           record, last_error, skip_reason) OFFSET 0) AS n
WHERE (l.call_id, l.group_id, l.leg_id, l.code_id)
    = (n.call_id, n.group_id, n.leg_id, n.code_id)
  AND l.feed = n.feed AND l.state = (SELECT 'skipped') AND l.skip_reason = $13
RETURNING l.call_id, l.group_id, l.leg_id, l.code_id

-- name: pull_back
-- Set a watermark of the feed $1 that lies ahead of the source's clock back to $2, and that of
-- calls without an end to $3.
UPDATE feed SET watermark = $2, never_ended_until = least(never_ended_until, $3)
WHERE name = $1 AND watermark > $2

-- name: known
-- Which of the calls $1 have which lines of the feed $2.
SELECT call_id, group_id, leg_id, code_id FROM line WHERE call_id = ANY ($1::bigint[]) AND feed = $2

-- name: filtered
-- Which lines of the calls $1, of the feed $2, were skipped for the reason $3.
SELECT call_id, group_id, leg_id, code_id FROM line
WHERE call_id = ANY ($1::bigint[]) AND feed = $2 AND state = (SELECT 'skipped')
  AND skip_reason = $3

-- name: settled_keys
-- Which lines of the calls $1, of the feed $2, are not pending.
SELECT call_id, group_id, leg_id, code_id FROM line
WHERE call_id = ANY ($1::bigint[]) AND feed = $2 AND state <> 'pending'

-- name: digest
-- How many lines of the feed $2 the calls $1 have, and the sum of their keys' hashes.
SELECT count(*) AS lines,
       sum(hashint8extended(
           hash_record_extended(ROW (call_id, group_id, leg_id, code_id), 0), 0
       )) AS digest
FROM line WHERE call_id = ANY ($1::bigint[]) AND feed = $2
