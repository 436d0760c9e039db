-- Queries and changes of the ledger for commands and the status page.

-- name: counts
-- Lines per feed and state, by the two indexes that have both: they are a small part of the table.
SELECT feed, state, count(*) AS lines FROM line WHERE state <> 'pending' GROUP BY feed, state
UNION ALL
SELECT feed, 'pending', count(*) FROM line WHERE state = 'pending' GROUP BY feed

-- name: waiting
-- Lines of the feed $1 per state that somebody waits for, how many of the pending ones are so for
-- $2 at most, the age of the oldest to send, and of the oldest that an operator must look at,
-- not_found ones of streaks among them; by partial indexes.
SELECT p.pending,
       (SELECT count(*) FROM line WHERE feed = $1 AND state = 'rejected') AS rejected,
       (SELECT count(*) FROM line WHERE feed = $1 AND state = 'expired') AS expired,
       (SELECT count(*) FROM line WHERE feed = $1 AND state = 'invalid') AS invalid,
       p.taken_lately, p.oldest_pending_seconds,
       extract(epoch FROM now() - least(
           (SELECT min(settled_at) FROM (
               SELECT settled_at FROM line
               WHERE feed = $1 AND state IN ('rejected', 'expired', 'invalid') OFFSET 0
           ) AS kept),
           (SELECT min(n.settled_at) FROM streak AS s CROSS JOIN LATERAL (
               SELECT settled_at FROM line
               WHERE feed = $1 AND state = 'not_found'
                 AND settled_at BETWEEN s.since AND s.until OFFSET 0
           ) AS n WHERE s.feed = $1)
       )) AS oldest_kept_seconds
FROM (
    SELECT count(*) AS pending,
           count(*) FILTER (WHERE pending_since >= now() - $2::interval) AS taken_lately,
           extract(epoch FROM now() - min(pending_since)) AS oldest_pending_seconds
    FROM line WHERE feed = $1 AND state = 'pending'
) AS p

-- name: settled_lately
-- How many lines of the feed $1 were settled for $2 at most, and how many of these had become
-- pending in that time too.
SELECT count(*) AS settled,
       count(*) FILTER (WHERE pending_since >= now() - $2::interval) AS taken
FROM line WHERE feed = $1 AND settled_at >= now() - $2::interval

-- name: oldest
-- Seconds since the oldest pending line of the feed $1 became so.
SELECT extract(epoch FROM now() - min(pending_since)) FROM line
WHERE feed = $1 AND state = 'pending'

-- name: status
-- The status of the ledger, its feed $1 and its instance, in one row.
SELECT f.watermark, f.start_from, f.pruned_before, f.pause_reason, f.retry_at AS pause_retry_at,
       f.delivered_at AS last_delivered_at, g.held_since, g.held_reason,
       i.host, i.pid, i.version, i.started_at, i.stopped_at, i.unclean_at,
       i.state, i.reason, i.retry_at, i.probe_answered
FROM ledger AS g JOIN feed AS f ON f.name = $1 LEFT JOIN instance AS i ON true

-- name: streaks
-- What is still refused of the streaks of the failing endpoint of the feed $2, the oldest $1 of
-- them. Streaks between which no other line was refused are returned as one.
WITH streaks AS (
    SELECT since, until, max(until) OVER (
        ORDER BY since, id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS earlier
    FROM streak WHERE feed = $2
),
apart AS (
    SELECT since, until, count(*) FILTER (WHERE EXISTS (
        SELECT FROM line AS l
        WHERE l.feed = $2 AND l.state IN ('rejected', 'not_found')
          AND l.settled_at > s.earlier AND l.settled_at < s.since
        OFFSET 0
    )) OVER (ORDER BY since, until) AS number
    FROM streaks AS s
)
SELECT w.since, w.until, n.rejected, n.not_found
FROM (SELECT min(since) AS since, max(until) AS until FROM apart GROUP BY number) AS w
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE state = 'rejected') AS rejected,
           count(*) FILTER (WHERE state = 'not_found') AS not_found
    FROM line
    WHERE feed = $2 AND state IN ('rejected', 'not_found')
      AND settled_at BETWEEN w.since AND w.until
) AS n
WHERE n.rejected + n.not_found > 0
ORDER BY w.since
LIMIT $1

-- name: pace
-- The ledger's time, how many lines of the feed $1 are pending then, and how many were settled from
-- $2 on (NULL: none).
SELECT now() AS at,
       (SELECT count(*) FROM line WHERE feed = $1 AND state = 'pending') AS pending,
       (SELECT count(*) FROM line
        WHERE feed = $1 AND settled_at >= $2::timestamptz AND settled_at < now()) AS settled

-- name: active
-- Whether any session holds the lock of this ledger.
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid = $1::oid AND objid = 'ledger'::regclass::oid AND objsubid = 2
)

-- name: pause
-- Pause sending, for the reason $1, until `resume`.
UPDATE ledger SET held_since = coalesce(held_since, now()), held_reason = $1

-- name: resume
-- Continue sending; the act $1 also asks that an automatic pause tries again at once.
UPDATE ledger SET held_since = NULL, held_reason = NULL, probe_requested = $1

-- name: allow_probe
-- Where all pending lines of the feed $1 wait for a later try, let the first of them be tried now:
-- a probe needs one that is ready.
WITH head AS (
    SELECT call_id, group_id, leg_id, code_id, feed, lane
    FROM line
    WHERE feed = $1 AND state = 'pending'
    ORDER BY backfill, call_ended, call_id, ordinal
    LIMIT 1
),
ready AS (
    SELECT
    FROM line AS l
    LEFT JOIN lane AS k ON k.lane = l.lane
    WHERE l.feed = $1 AND l.state = 'pending'
      AND (l.next_try_at IS NULL OR l.next_try_at <= now())
      AND (k.until IS NULL OR k.until <= now())
    ORDER BY l.backfill, l.call_ended, l.call_id, l.ordinal
    LIMIT 1
),
freed AS (
    UPDATE lane SET until = now()
    WHERE lane = (SELECT lane FROM head) AND until > now() AND NOT EXISTS (SELECT FROM ready)
)
UPDATE line AS l SET next_try_at = NULL
FROM head AS h
WHERE (l.call_id, l.group_id, l.leg_id, l.code_id, l.feed)
    = (h.call_id, h.group_id, h.leg_id, h.code_id, h.feed)
  AND l.state = (SELECT 'pending') AND NOT EXISTS (SELECT FROM ready)

-- name: any_pending
-- Whether a line is to be sent.
SELECT EXISTS (SELECT FROM line WHERE state = 'pending')

-- name: begin_act
-- Record an act: kind, who, states, since, until, settled since and until, call, only backfills,
-- resend, reason; $12 if it is over with this transaction; the feed $13. Returns its id.
INSERT INTO act (kind, who, states, since, until, settled_since, settled_until, call_id, backfill,
                 resend, reason, ended_at, feed)
VALUES ($1, $2, $3::text[], $4, $5, $6, $7, $8, $9, $10, $11, CASE WHEN $12 THEN now() END, $13)
RETURNING id

-- name: end_act
-- The act $1 has come to its end.
UPDATE act SET ended_at = now() WHERE id = $1

-- name: latest_acts
-- The $1 latest acts, newest first; of those before the act $2 (NULL: of all).
SELECT id, kind, who, states, since, until, settled_since, settled_until, call_id, backfill, resend,
       reason, feed, began_at, ended_at, lines
FROM act WHERE id < coalesce($2::bigint, 9223372036854775807) ORDER BY id DESC LIMIT $1

-- name: select_lines
-- Lines in the states $1 of calls that ended in [$2, $3), of the call $4, from backfills only ($5),
-- settled in [$6, $7), of the feed $8; NULL asks for all. Not what a filter has kept out. Next $14
-- after the key ($9 to $13).
SELECT call_id, group_id, leg_id, code_id, feed, state,
       state = 'skipped' AND salesforce_id IS NULL AS without_id, record IS NOT NULL AS has_record
FROM line
WHERE state = ANY ($1::text[])
  AND ($2::timestamptz IS NULL OR call_ended >= $2::timestamptz)
  AND ($3::timestamptz IS NULL OR call_ended < $3::timestamptz)
  AND ($4::bigint IS NULL OR call_id = $4::bigint)
  AND (NOT $5::boolean OR backfill)
  AND ($6::timestamptz IS NULL OR settled_at >= $6::timestamptz)
  AND ($7::timestamptz IS NULL OR settled_at < $7::timestamptz)
  AND ($8::text IS NULL OR feed = $8::text)
  AND skip_reason IS DISTINCT FROM 'filtered'
  AND (call_id, group_id, leg_id, code_id, feed)
    > ($9::bigint, $10::bigint, $11::bigint, $12::bigint, $13::text)
ORDER BY call_id, group_id, leg_id, code_id, feed
LIMIT $14

-- name: count_lines
-- How many lines the same choice has, per state, and how many more a filter has kept out.
SELECT state, count(*) FILTER (WHERE skip_reason IS DISTINCT FROM 'filtered') AS lines,
       count(*) FILTER (WHERE skip_reason = 'filtered') AS filtered
FROM line
WHERE state = ANY ($1::text[])
  AND ($2::timestamptz IS NULL OR call_ended >= $2::timestamptz)
  AND ($3::timestamptz IS NULL OR call_ended < $3::timestamptz)
  AND ($4::bigint IS NULL OR call_id = $4::bigint)
  AND (NOT $5::boolean OR backfill)
  AND ($6::timestamptz IS NULL OR settled_at >= $6::timestamptz)
  AND ($7::timestamptz IS NULL OR settled_at < $7::timestamptz)
  AND ($8::text IS NULL OR feed = $8::text)
GROUP BY state

-- name: lock_lines
-- Lock the lines of the feed $5 with the keys $1… in the order in which outcomes are written, so
-- that whoever writes some of both waits and neither ends in a deadlock.
SELECT FROM line AS l
JOIN (SELECT *, $5::text AS feed FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
     AS given (call_id, group_id, leg_id, code_id) OFFSET 0) AS o
    USING (call_id, group_id, leg_id, code_id)
WHERE l.feed = o.feed
ORDER BY l.call_id, l.group_id, l.leg_id, l.code_id
FOR UPDATE OF l

-- name: requeue
-- Back to pending by the act $7: the lines of the feed $5 with the keys $1… that are still in the
-- state $6, as they are. Retention may just have dropped a record. Returns the keys.
UPDATE line AS l
SET state = 'pending', generation = l.generation + 1, tries = 0, first_try = NULL,
    next_try_at = NULL, settled_at = NULL, last_error = NULL, skip_reason = NULL,
    answer = NULL, pending_since = now(), act_id = $7
FROM (SELECT *, $5::text AS feed
      FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $6::text[])
     AS given (call_id, group_id, leg_id, code_id, state) OFFSET 0) AS o
WHERE (l.call_id, l.group_id, l.leg_id, l.code_id)
    = (o.call_id, o.group_id, o.leg_id, o.code_id) AND l.feed = o.feed AND l.state = o.state
  AND l.record IS NOT NULL
RETURNING l.call_id, l.group_id, l.leg_id, l.code_id

-- name: discard
-- Withdraw by the act $7 the lines of the feed $5 with the keys $1… that are still in the state $6;
-- an answer under way is void. Returns the keys.
UPDATE line AS l
SET state = 'skipped', generation = l.generation + 1, last_error = 'discarded by operator',
    skip_reason = 'discarded', next_try_at = NULL, settled_at = now(), act_id = $7
FROM (SELECT *, $5::text AS feed
      FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $6::text[])
     AS given (call_id, group_id, leg_id, code_id, state) OFFSET 0) AS o
WHERE (l.call_id, l.group_id, l.leg_id, l.code_id)
    = (o.call_id, o.group_id, o.leg_id, o.code_id) AND l.feed = o.feed AND l.state = o.state
RETURNING l.call_id, l.group_id, l.leg_id, l.code_id

-- name: renew
-- Replace the records of lines of the feed $16 in the states $14 (parallel arrays as in take) and
-- put them into the state that these call for; $13 says whether they count as backfill from now on
-- (NULL: as before); by the act $15. Only lines skipped for the reason $17, unless NULL: one that a
-- filter kept out was never sent as it is, so its generation may stay.
UPDATE line AS l
SET state = n.state, record = n.record, lane = n.lane,
    generation = l.generation + CASE WHEN l.skip_reason = 'filtered' THEN 0 ELSE 1 END,
    salesforce_id = n.salesforce_id, last_error = n.last_error, skip_reason = n.skip_reason,
    call_ended = n.call_ended, backfill = coalesce($13::boolean, l.backfill), tries = 0,
    first_try = NULL, next_try_at = NULL, answer = NULL, pending_since = now(), act_id = $15,
    settled_at = CASE WHEN n.state <> 'pending' THEN now() END
FROM (SELECT *, $16::text AS feed
      FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::integer[], $6::text[],
            $7::text[], $8::timestamptz[], $9::text[], $10::text[], $11::text[], $12::text[])
     AS given (call_id, group_id, leg_id, code_id, ordinal, lane, salesforce_id, call_ended, state,
           record, last_error, skip_reason) OFFSET 0) AS n
WHERE (l.call_id, l.group_id, l.leg_id, l.code_id)
    = (n.call_id, n.group_id, n.leg_id, n.code_id)
  AND l.feed = n.feed AND l.state = ANY ($14::text[]) AND l.state <> 'pending'
  AND ($17::text IS NULL OR l.skip_reason = $17::text)
RETURNING l.call_id, l.group_id, l.leg_id, l.code_id, l.state

-- name: window
-- Lines of the feed $3 per state, of the calls that ended in [$1, $2).
SELECT state, count(*) AS lines FROM line
WHERE call_ended >= $1 AND call_ended < $2 AND feed = $3
GROUP BY state

-- name: window_pending
-- How many lines of the feed $3, of the calls that ended in [$1, $2), are still to be sent.
SELECT count(*) FROM line
WHERE state = 'pending' AND call_ended >= $1 AND call_ended < $2 AND feed = $3

-- name: pruned
-- The end of the newest call of the feed $1 whose lines retention has removed; NULL if none was.
SELECT pruned_before FROM feed WHERE name = $1

-- name: of_call
-- All lines of the call or event $1, of the feed $3, in sending order, with the back-off of their
-- record and the last act; only the first $2 (or all) with what is sent.
SELECT l.call_id, l.group_id, l.leg_id, l.code_id, l.ordinal, l.lane, l.salesforce_id, l.backfill,
       l.state, l.generation, l.attempts, l.unanswered, l.last_status, l.last_error, l.taken_at,
       l.pending_since,
       greatest(l.next_try_at, k.until) AS next_try_at, l.settled_at,
       l.skip_reason, CASE WHEN $2::bigint IS NULL OR row_number() OVER (
           ORDER BY l.ordinal, l.group_id, l.leg_id, l.code_id
       ) <= $2 THEN l.record END AS record,
       l.answer, a.kind AS act, a.who AS act_who, a.began_at AS act_at
FROM line AS l
LEFT JOIN lane AS k ON k.lane = l.lane AND l.state = 'pending'
LEFT JOIN act AS a ON a.id = l.act_id
WHERE l.call_id = $1 AND l.feed = $3
ORDER BY l.ordinal, l.group_id, l.leg_id, l.code_id

-- name: subjects_of_lane
-- The latest $2 calls and events that have a line in the lane $1, with their feeds, newest first.
SELECT call_id, feed FROM line WHERE lane = $1
GROUP BY call_id, feed ORDER BY max(call_ended) DESC, feed, call_id DESC LIMIT $2

-- name: now
-- The ledger's own time.
SELECT now()

-- name: oldest_pending
-- The $1 pending lines of the feed $2 that come first in sending order, as `of_call` has them but
-- for the record.
SELECT l.call_id, l.group_id, l.leg_id, l.code_id, l.ordinal, l.lane, l.salesforce_id, l.backfill,
       l.state, l.generation, l.attempts, l.unanswered, l.last_status, l.last_error, l.taken_at,
       l.pending_since,
       greatest(l.next_try_at, k.until) AS next_try_at, l.settled_at, l.skip_reason,
       NULL AS record
FROM line AS l LEFT JOIN lane AS k ON k.lane = l.lane
WHERE l.feed = $2 AND l.state = 'pending'
ORDER BY l.backfill, l.call_ended, l.call_id, l.ordinal
LIMIT $1

-- name: latest_failed
-- The $1 lines of the feed $2 that ended in another way than delivered or skipped, newest first,
-- likewise.
SELECT l.call_id, l.group_id, l.leg_id, l.code_id, l.ordinal, l.lane, l.salesforce_id, l.backfill,
       l.state, l.generation, l.attempts, l.unanswered, l.last_status, l.last_error, l.taken_at,
       l.pending_since,
       l.next_try_at, l.settled_at, l.skip_reason,
       NULL AS record
FROM line AS l
WHERE l.feed = $2 AND l.state IN ('conflict', 'not_found', 'rejected', 'expired', 'invalid')
ORDER BY l.settled_at DESC
LIMIT $1

-- name: settled_by_hour
-- Lines of the feed $2 per state and hour in which they were settled, hours counted from $1 on.
SELECT date_bin('1 hour', settled_at, $1) AS hour, state, count(*) AS lines
FROM line
WHERE settled_at >= $1 AND feed = $2
GROUP BY hour, state

-- name: count_act
-- $2 more lines were changed by the act $1.
UPDATE act SET lines = lines + $2 WHERE id = $1

-- name: notify
-- Notify the active instance that an operator changed something.
SELECT pg_notify('callstatsd_' || 'ledger'::regclass::oid, '')
