-- The status that the active instance reports, and what operators request of it.

-- name: succeed
-- Take the instance's row over for the lease $1 of the ledger with the oid $2, from the lease $3
-- and from no other; remember when the instance before this one did not stop in order.
UPDATE instance
SET lease = $1, ledger_oid = $2, stopped_at = NULL,
    unclean_at = CASE WHEN stopped_at IS NULL THEN now() ELSE unclean_at END
WHERE lease IS NOT DISTINCT FROM $3

-- name: write_heartbeat
-- What the active instance is doing: host, pid, version, seconds since start, state, reason,
-- seconds until it tries again, whether it has stopped; its lease $9 of the ledger with the oid
-- $10; the last act whose probe this answers. No row while another lease owns the instance's row.
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

-- name: write_feed_pauses
-- Why the sender pauses the feeds $1 (parallel arrays): reason, and seconds until it tries again.
UPDATE feed AS f SET pause_reason = n.reason, retry_at = now() + make_interval(secs => n.wait)
FROM unnest($1::text[], $2::text[], $3::double precision[]) AS n (name, reason, wait)
WHERE f.name = n.name AND (f.pause_reason IS NOT NULL OR n.reason IS NOT NULL)

-- name: wishes
-- What is requested of the active instance: an operator's pause, the latest act that asked for a
-- try at once, and whether a migration waits to upgrade the ledger (its lock's class is above $1,
-- that of our own version, and at most $2).
SELECT held_since, held_reason, probe_requested, EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid > $1::integer::oid AND classid <= $2::integer::oid
      AND objid = 'ledger'::regclass::oid AND objsubid = 2
) AS upgrade
FROM ledger
