-- Lists of lines by state, page by page: newest settled first, pending ones in sending order.

-- name: for_values
-- For the rest of this transaction: plan each statement for its own values. A plan for all values
-- alike would read far more than a page.
SET LOCAL plan_cache_mode = force_custom_plan

-- name: place
-- Where the line with the key ($1, $2, $3, $4, $5) is in these lists, after its state.
SELECT state, settled_at, backfill, call_ended, call_id, ordinal, group_id, leg_id, code_id, feed
FROM line
WHERE (call_id, group_id, leg_id, code_id, feed) = ($1, $2, $3, $4, $5)

-- name: list_pending
-- The next $2 pending lines of the feeds $1 after the place $3 to $10 (NULL: from the first on), of
-- calls that ended in [$11, $12) (NULL: at any time), with the back-off of their records. Live lines
-- and backfill of each feed are read as their index has them.
SELECT p.call_id, p.group_id, p.leg_id, p.code_id, p.feed, p.state, p.salesforce_id, p.attempts,
       p.last_status, p.last_error, p.taken_at, p.pending_since,
       greatest(p.next_try_at, k.until) AS next_try_at, p.settled_at
FROM (
    SELECT l.*
    FROM unnest($1::text[]) AS f (name)
    CROSS JOIN (VALUES (false), (true)) AS b (backfill)
    CROSS JOIN LATERAL (
        SELECT * FROM line AS l
        WHERE l.state = 'pending' AND l.feed = f.name AND l.backfill = b.backfill
          AND l.call_ended >= coalesce($11::timestamptz, '-infinity')
          AND l.call_ended < coalesce($12::timestamptz, 'infinity')
          AND ($3::boolean IS NULL
               OR (l.backfill, l.call_ended, l.call_id, l.ordinal, l.group_id, l.leg_id, l.code_id,
                   l.feed)
                > ($3::boolean, $4::timestamptz, $5::bigint, $6::integer, $7::bigint, $8::bigint,
                   $9::bigint, $10::text))
        ORDER BY l.call_ended, l.call_id, l.ordinal, l.group_id, l.leg_id, l.code_id
        LIMIT $2
    ) AS l
    ORDER BY l.backfill, l.call_ended, l.call_id, l.ordinal, l.group_id, l.leg_id, l.code_id, l.feed
    LIMIT $2
) AS p
LEFT JOIN lane AS k ON k.lane = p.lane
ORDER BY p.backfill, p.call_ended, p.call_id, p.ordinal, p.group_id, p.leg_id, p.code_id, p.feed

-- name: list_settled
-- The next $2 lines of the feeds $1 in the state $3 that were settled in [$4, $5) (NULL: at any
-- time), after the place $6 to $14 (NULL: from the newest on). Each feed's are read as the index
-- line_listed has them; the state is hidden from the planner, which would read all failed ones.
SELECT l.call_id, l.group_id, l.leg_id, l.code_id, l.feed, l.state, l.salesforce_id, l.attempts,
       l.last_status, l.last_error, l.taken_at, l.pending_since, l.next_try_at, l.settled_at
FROM unnest($1::text[]) AS f (name)
CROSS JOIN LATERAL (
    SELECT * FROM line AS l
    WHERE l.state <> 'pending' AND l.state = (SELECT $3::text) AND l.feed = f.name
      AND l.settled_at >= coalesce($4::timestamptz, '-infinity')
      AND l.settled_at < coalesce($5::timestamptz, 'infinity')
      AND ($6::timestamptz IS NULL
           OR l.settled_at <= $6::timestamptz
           AND (l.settled_at < $6::timestamptz
                OR (l.backfill, l.call_ended, l.call_id, l.ordinal, l.group_id, l.leg_id,
                    l.code_id, l.feed)
                 > ($7::boolean, $8::timestamptz, $9::bigint, $10::integer, $11::bigint,
                    $12::bigint, $13::bigint, $14::text)))
    ORDER BY l.settled_at DESC, l.backfill, l.call_ended, l.call_id, l.ordinal, l.group_id,
             l.leg_id, l.code_id
    LIMIT $2
) AS l
ORDER BY l.settled_at DESC, l.backfill, l.call_ended, l.call_id, l.ordinal, l.group_id, l.leg_id,
         l.code_id, l.feed
LIMIT $2

-- name: list_chosen
-- The same for lines in any state $3, of calls that ended in [$15, $16), of the lane $17 (NULL:
-- all): first these are looked up, then sorted (OFFSET 0), because in the order of settling or
-- sending they may be anywhere.
SELECT l.call_id, l.group_id, l.leg_id, l.code_id, l.feed, l.state, l.salesforce_id, l.attempts,
       l.last_status, l.last_error, l.taken_at, l.pending_since,
       greatest(l.next_try_at, k.until) AS next_try_at, l.settled_at
FROM (
    SELECT * FROM line AS l
    WHERE l.state = $3::text AND l.feed = ANY ($1::text[])
      AND ($17::text IS NULL OR l.lane = $17::text)
      AND ($15::timestamptz IS NULL OR l.call_ended >= $15::timestamptz)
      AND ($16::timestamptz IS NULL OR l.call_ended < $16::timestamptz)
      AND ($4::timestamptz IS NULL OR l.settled_at >= $4::timestamptz)
      AND ($5::timestamptz IS NULL OR l.settled_at < $5::timestamptz)
      AND ($7::boolean IS NULL
           OR l.settled_at < $6::timestamptz
           OR l.settled_at IS NOT DISTINCT FROM $6::timestamptz
           AND (l.backfill, l.call_ended, l.call_id, l.ordinal, l.group_id, l.leg_id, l.code_id,
                l.feed)
             > ($7::boolean, $8::timestamptz, $9::bigint, $10::integer, $11::bigint, $12::bigint,
                $13::bigint, $14::text))
    OFFSET 0
) AS l
LEFT JOIN lane AS k ON k.lane = l.lane AND l.state = 'pending'
ORDER BY l.settled_at DESC, l.backfill, l.call_ended, l.call_id, l.ordinal, l.group_id, l.leg_id,
         l.code_id, l.feed
LIMIT $2
