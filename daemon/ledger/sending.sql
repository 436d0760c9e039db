-- Which lines to send, their outcomes, and pauses.

-- name: in_order
-- For the rest of this transaction: take from an index what is wanted in order. A planner that
-- expects few pending lines would sort all of a backlog to return its first.
SET LOCAL enable_sort = off; SET LOCAL jit = off

-- name: pending
-- The next $1 lines of the feed $3 to send, live before backfill, in order; without lines that wait
-- for their next try, lines of records that are held back, and lines of the lanes $2.
SELECT l.call_id, l.group_id, l.leg_id, l.code_id, l.generation, l.backfill, l.call_ended,
       l.ordinal, l.lane, l.salesforce_id, l.record, l.attempts, l.tries,
       coalesce(k.tries, 0) AS lane_tries
FROM line AS l
LEFT JOIN lane AS k ON k.lane = l.lane
WHERE l.state = 'pending'
  AND (l.next_try_at IS NULL OR l.next_try_at <= now())
  AND (k.until IS NULL OR k.until <= now())
  AND l.lane <> ALL ($2::text[])
  AND l.feed = $3
ORDER BY l.backfill, l.call_ended, l.call_id, l.ordinal
LIMIT $1

-- name: newest
-- The place of the last of $2 pending lines of the feed $6, newest first from before the place ($3,
-- $4, $5) on, live or from backfills ($1); beside it the newest of them that may be sent now, is
-- the first of its record, and has not failed as a probe in the present pause. Each record is
-- looked up once, newest first until one is found (OFFSET 0), among its own lines ('pending' hidden
-- from the planner).
WITH page AS MATERIALIZED (
    SELECT call_id, group_id, leg_id, code_id, feed, backfill, call_ended, ordinal, lane,
           next_try_at, probe_failed_at
    FROM line
    WHERE state = 'pending' AND backfill = $1::boolean AND feed = $6
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
    JOIN line AS l USING (call_id, group_id, leg_id, code_id, feed)
    LEFT JOIN lane AS k ON k.lane = n.lane
    WHERE (n.next_try_at IS NULL OR n.next_try_at <= now())
      AND (k.until IS NULL OR k.until <= now())
      AND (n.probe_failed_at > (
               SELECT max(until) FROM streak WHERE ended_at IS NULL AND feed = $6
           )) IS NOT TRUE
      AND NOT EXISTS (
          SELECT FROM line AS e
          WHERE e.lane = n.lane AND e.feed = $6 AND e.state = (SELECT 'pending')
            AND (e.backfill, e.call_ended, e.call_id, e.ordinal, e.group_id, e.leg_id, e.code_id,
                 e.feed)
              < (n.backfill, n.call_ended, n.call_id, n.ordinal, n.group_id, n.leg_id, n.code_id,
                 n.feed)
          OFFSET 0
      )
    ORDER BY n.call_ended DESC, n.call_id DESC, n.ordinal DESC
    LIMIT 1
) AS f ON true

-- name: settle
-- Write what came of attempts at lines of the feed $17 (parallel arrays $1 to $15; $14 is how many
-- attempts there were before; an empty array is NULL or false for all), unless an operator changed
-- them since. If they may be written already ($18), no attempt is counted twice. A failed line
-- expires $16 seconds after its first attempt; pauses of the sender do not count. Returns the place
-- in the arrays, state and attempts of each line that was changed. Its 'pending' is hidden from the
-- planner, which would read the whole backlog by its own index where it believes that to be small.
WITH sending AS MATERIALIZED (
    SELECT extract(epoch FROM coalesce(paused_since, now())) - paused_seconds AS clock
    FROM feed WHERE name = $17
),
settled AS (
    UPDATE line AS l
    SET state = CASE WHEN o.failed AND sending.clock - l.first_try >= $16 THEN 'expired'
                     ELSE o.state END,
        settled_at = CASE WHEN o.state <> 'pending'
                          OR o.failed AND sending.clock - l.first_try >= $16 THEN now() END,
        attempts = l.attempts + (o.sent AND NOT ($18 AND l.attempts > o.attempts))::integer,
        tries = l.tries + (o.failed AND NOT ($18 AND l.attempts > o.attempts))::integer,
        unanswered = l.unanswered
                   + (o.unanswered AND NOT ($18 AND l.attempts > o.attempts))::integer,
        first_try = CASE WHEN o.sent THEN coalesce(l.first_try, sending.clock - o.age)
                         ELSE l.first_try END,
        last_status = CASE WHEN o.sent THEN o.status ELSE l.last_status END,
        last_error = o.error,
        answer = coalesce(o.answer, l.answer),
        next_try_at = now() + make_interval(secs => o.wait)
    FROM sending, (
        SELECT place, $17::text AS feed, call_id, group_id, leg_id, code_id, generation, state,
               sent, coalesce(failed, false) AS failed, coalesce(unanswered, false) AS unanswered,
               status, error, age, wait, attempts, answer
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::integer[],
                    $6::text[], $7::boolean[], $8::boolean[], $9::boolean[], $10::integer[],
                    $11::text[], $12::double precision[], $13::double precision[], $14::integer[],
                    $15::text[])
             WITH ORDINALITY
             AS given (call_id, group_id, leg_id, code_id, generation, state, sent, failed,
                       unanswered, status, error, age, wait, attempts, answer, place)
        OFFSET 0
    ) AS o
    WHERE (l.call_id, l.group_id, l.leg_id, l.code_id)
        = (o.call_id, o.group_id, o.leg_id, o.code_id)
      AND l.feed = o.feed AND l.generation = o.generation AND l.state = (SELECT 'pending')
    RETURNING o.place, l.state, l.attempts
),
delivered AS (
    UPDATE feed SET delivered_at = now()
    WHERE name = $17 AND EXISTS (SELECT FROM settled WHERE state = 'delivered')
)
SELECT place, state, attempts FROM settled

-- name: settle_lanes
-- The lanes $1 wait for $2 seconds after $3 tries; the lanes $4 wait no longer.
WITH freed AS (
    DELETE FROM lane WHERE lane = ANY ($4::text[])
)
INSERT INTO lane (lane, until, tries)
SELECT n.lane, now() + make_interval(secs => n.wait), n.tries
FROM unnest($1::text[], $2::double precision[], $3::integer[]) AS n (lane, wait, tries)
ON CONFLICT (lane) DO UPDATE SET until = excluded.until, tries = excluded.tries

-- name: settle_void
-- Note attempts at lines of the feed $8 that a person changed meanwhile (parallel arrays): their
-- state stays.
UPDATE line AS l
SET attempts = l.attempts + 1, unanswered = l.unanswered + o.unanswered::integer,
    last_status = o.status
FROM (SELECT *, $8::text AS feed
      FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::integer[],
            $6::boolean[], $7::integer[])
     AS given (call_id, group_id, leg_id, code_id, generation, unanswered, status) OFFSET 0) AS o
WHERE (l.call_id, l.group_id, l.leg_id, l.code_id)
    = (o.call_id, o.group_id, o.leg_id, o.code_id)
  AND l.feed = o.feed AND l.generation > o.generation

-- name: count_pending
-- How many lines of the feed $1 wait to be sent.
SELECT count(*) FROM line WHERE state = 'pending' AND feed = $1

-- name: pause_began
-- Sending of the feed $1 pauses; from now on no time counts against any of its lines.
UPDATE feed SET paused_since = now() WHERE name = $1 AND paused_since IS NULL

-- name: pause_ended
-- Sending of the feed $1 continues.
UPDATE feed
SET paused_seconds = paused_seconds + extract(epoch FROM now() - paused_since),
    paused_since = NULL
WHERE name = $1 AND paused_since IS NOT NULL

-- name: proven
-- The endpoint of the feed $1 has accepted (200) or refused for good (409) a line for the first
-- time.
UPDATE feed SET endpoint_proven = true WHERE name = $1 AND NOT endpoint_proven

-- name: streak_began
-- The sender pauses because the endpoint of the feed $5 fails. The streak is what was refused since
-- the first of the lines $1…; where the endpoint refused none, it is this moment.
INSERT INTO streak (feed, since, until)
SELECT $5::text, coalesce(min(settled_at), now()), coalesce(max(settled_at), now())
FROM line
WHERE feed = $5::text AND state IN ('rejected', 'not_found') AND settled_at >= (
    SELECT min(l.settled_at)
    FROM (SELECT *, $5::text AS feed
          FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
         AS given (call_id, group_id, leg_id, code_id) OFFSET 0) AS k
    JOIN line AS l USING (call_id, group_id, leg_id, code_id)
    WHERE l.feed = k.feed AND l.state IN ('rejected', 'not_found')
)

-- name: streak_ended
-- The endpoint of the feed $1 works again: returns the streak's window, and how many of its lines
-- stay refused.
WITH ended AS (
    UPDATE streak SET ended_at = now() WHERE feed = $1 AND ended_at IS NULL RETURNING since, until
)
SELECT w.since, w.until, n.rejected, n.not_found
FROM (SELECT min(since) AS since, max(until) AS until FROM ended) AS w
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE state = 'rejected') AS rejected,
           count(*) FILTER (WHERE state = 'not_found') AS not_found
    FROM line
    WHERE feed = $1 AND state IN ('rejected', 'not_found')
      AND settled_at BETWEEN w.since AND w.until
) AS n
WHERE w.since IS NOT NULL

-- name: streak_lasts
-- Whether the sender pauses because the endpoint of the feed $1 fails, also if nobody sends at the
-- moment.
SELECT EXISTS (SELECT FROM streak WHERE feed = $1 AND ended_at IS NULL)

-- name: probe_failed
-- The line $1… was sent while the endpoint failed, and got no better answer.
UPDATE line SET probe_failed_at = now()
WHERE (call_id, group_id, leg_id, code_id, feed) = ($1, $2, $3, $4, $5)

-- name: refused_last
-- The $1 lines of the feed $2 that Salesforce refused last, newest first: since the last delivery
-- and the last streak.
SELECT call_id, group_id, leg_id, code_id, lane, state, last_status
FROM line
WHERE feed = $2 AND state IN ('conflict', 'not_found', 'rejected')
  AND settled_at > coalesce((SELECT delivered_at FROM feed WHERE name = $2), '-infinity')
  AND settled_at > coalesce(
      (SELECT max(greatest(until, ended_at)) FROM streak WHERE feed = $2), '-infinity'
  )
ORDER BY settled_at DESC
LIMIT $1

-- name: endpoint_proven
-- Whether the endpoint of the feed $1 has ever answered a line with 2xx or 409.
SELECT endpoint_proven FROM feed WHERE name = $1
