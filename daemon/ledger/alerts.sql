-- Alerts: which lines one counts, what came of it, and when the next may be raised.

-- name: begin_alerts
-- Note that alerts are on, if they never were; the code of this ledger.
UPDATE ledger SET alerts_since = coalesce(alerts_since, now()) RETURNING code

-- name: open_alert
-- The alert that was numbered and neither raised nor given up, and whether it may be tried now.
SELECT number, rejected, expired, invalid, tries, coalesce(retry_at <= now(), true) AS due
FROM alert
WHERE raised_at IS NULL AND given_up_at IS NULL

-- name: alert_due
-- Whether a line that no alert counts was settled $2 seconds ago or earlier, and the last alert
-- ended at least $1 seconds ago.
SELECT EXISTS (
           SELECT FROM line
           WHERE state IN ('rejected', 'expired', 'invalid')
             AND alert_generation IS DISTINCT FROM generation
             AND settled_at >= (SELECT alerts_since FROM ledger)
             AND settled_at <= now() - make_interval(secs => $2)
       )
   AND NOT EXISTS (
           SELECT FROM alert
           WHERE coalesce(raised_at, given_up_at) > now() - make_interval(secs => $1)
       )

-- name: number_alert
-- Give the alert $1 (NULL: the next) the lines that it counts: its own that are still not in
-- Salesforce, and those that no alert counts. No row if there are none.
WITH own AS (
    SELECT coalesce($1::integer, (SELECT coalesce(max(number), 0) + 1 FROM alert)) AS number
),
counted AS (
    UPDATE line AS l
    SET alert_number = own.number, alert_generation = l.generation
    FROM own, ledger
    WHERE l.state IN ('rejected', 'expired', 'invalid')
      AND (l.alert_number = own.number
           OR l.alert_generation IS DISTINCT FROM l.generation
              AND l.settled_at >= ledger.alerts_since)
    RETURNING l.state
)
INSERT INTO alert (number, rejected, expired, invalid)
SELECT own.number, count(*) FILTER (WHERE state = 'rejected'),
       count(*) FILTER (WHERE state = 'expired'), count(*) FILTER (WHERE state = 'invalid')
FROM own, counted
GROUP BY own.number
ON CONFLICT (number) DO UPDATE
SET rejected = excluded.rejected, expired = excluded.expired, invalid = excluded.invalid
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
