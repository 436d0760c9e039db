-- Alerts: which lines one counts, what came of it, and when the next may be raised.

-- name: begin_alerts
-- Note that alerts are on, if they never were, and give a ledger a code of its own, also one that
-- was restored from a copy: its tables are others. What lies ahead of a clock that was set back is
-- pulled to now, and a next try to $1 seconds from now. Returns the code.
WITH begun AS (
    UPDATE ledger
    SET alerts_since = least(alerts_since, now()),
        code = CASE WHEN code_of = 'ledger'::regclass::oid THEN code
                    ELSE left(gen_random_uuid()::text, 8) END,
        code_of = 'ledger'::regclass::oid
    WHERE (alerts_since <= now() AND code_of = 'ledger'::regclass::oid) IS NOT TRUE
    RETURNING code
),
pulled_back AS (
    UPDATE alert
    SET requested_at = least(requested_at, now()),
        raised_at = CASE WHEN raised_at IS NOT NULL THEN least(raised_at, now()) END,
        given_up_at = CASE WHEN given_up_at IS NOT NULL THEN least(given_up_at, now()) END,
        retry_at = CASE WHEN retry_at IS NOT NULL
                        THEN least(retry_at, now() + make_interval(secs => $1)) END
    WHERE greatest(requested_at, raised_at, given_up_at) > now()
       OR retry_at > now() + make_interval(secs => $1)
)
SELECT coalesce(b.code, l.code) AS code FROM ledger AS l LEFT JOIN begun AS b ON true

-- name: open_alert
-- The alert that was numbered and neither raised nor given up, and whether it may be tried now; one
-- of whose request nothing was heard, $1 seconds after that.
SELECT number, rejected, expired, invalid, tries,
       coalesce(retry_at, requested_at + make_interval(secs => $1)) <= now() AS due
FROM alert
WHERE raised_at IS NULL AND given_up_at IS NULL

-- name: alert_due
-- Whether a line that no alert counts was settled $2 seconds ago or earlier, or ahead of a clock
-- that was set back, and the last alert ended at least $1 seconds ago.
SELECT EXISTS (
           SELECT FROM line
           WHERE state IN ('rejected', 'expired', 'invalid')
             AND alert_generation IS DISTINCT FROM generation
             AND settled_at >= (SELECT alerts_since FROM ledger)
             AND settled_at NOT BETWEEN now() - make_interval(secs => $2) AND now()
       )
   AND NOT EXISTS (
           SELECT FROM alert
           WHERE coalesce(raised_at, given_up_at) > now() - make_interval(secs => $1)
       )

-- name: number_alert
-- Give the alert $1 (NULL: the next) the lines that it counts: its own that are still not in
-- Salesforce, and those that no alert counts. No row if there are none.
WITH counted AS (
    UPDATE line
    SET alert_number = coalesce($1::integer, (SELECT coalesce(max(number), 0) + 1 FROM alert)),
        alert_generation = generation
    WHERE state IN ('rejected', 'expired', 'invalid')
      AND (alert_number = $1::integer
           OR alert_generation IS DISTINCT FROM generation
              AND settled_at >= (SELECT alerts_since FROM ledger))
    RETURNING alert_number, state
)
INSERT INTO alert (number, rejected, expired, invalid, requested_at)
SELECT alert_number, count(*) FILTER (WHERE state = 'rejected'),
       count(*) FILTER (WHERE state = 'expired'), count(*) FILTER (WHERE state = 'invalid'), now()
FROM counted
GROUP BY alert_number
ON CONFLICT (number) DO UPDATE
SET rejected = excluded.rejected, expired = excluded.expired, invalid = excluded.invalid,
    requested_at = excluded.requested_at, retry_at = NULL
RETURNING number, rejected, expired, invalid, tries

-- name: withdraw_alert
-- Forget the alert $1, which is not in the ACD and has no lines any more.
DELETE FROM alert WHERE number = $1 AND raised_at IS NULL

-- name: alert_raised
-- The alert $1 is in the ACD, as the event $2.
UPDATE alert SET raised_at = now(), acd_events_id = $2, retry_at = NULL, error = NULL
WHERE number = $1 AND raised_at IS NULL

-- name: alert_failed
-- The alert $1 was not raised, for this reason; it is tried again in $3 seconds, after $4 failures.
UPDATE alert SET error = $2, retry_at = now() + make_interval(secs => $3), tries = $4
WHERE number = $1 AND raised_at IS NULL

-- name: give_up_alert
-- The alert $1 is tried no more, for this reason; its lines are counted by the next.
WITH freed AS (
    UPDATE line SET alert_number = NULL, alert_generation = NULL
    WHERE alert_number = $1 AND state IN ('rejected', 'expired', 'invalid')
)
UPDATE alert SET given_up_at = now(), error = $2, retry_at = NULL
WHERE number = $1 AND raised_at IS NULL

-- name: alert_status
-- The alert that was raised last, and how many lines are in no raised alert, with the reason.
WITH waiting AS (
    SELECT (
        SELECT count(*) FROM line
        WHERE state IN ('rejected', 'expired', 'invalid')
          AND alert_generation IS DISTINCT FROM generation
          AND settled_at >= (SELECT alerts_since FROM ledger)
    ) + (
        SELECT count(*) FROM line
        WHERE state IN ('rejected', 'expired', 'invalid') AND alert_generation = generation
          AND alert_number = (SELECT number FROM alert
                              WHERE raised_at IS NULL AND given_up_at IS NULL)
    ) AS lines
)
SELECT w.lines AS waiting, r.raised_at, r.acd_events_id, r.rejected + r.expired + r.invalid AS lines,
       CASE WHEN w.lines > 0 THEN (SELECT error FROM alert ORDER BY number DESC LIMIT 1) END AS error
FROM waiting AS w
LEFT JOIN (
    SELECT * FROM alert WHERE raised_at IS NOT NULL ORDER BY number DESC LIMIT 1
) AS r ON true
