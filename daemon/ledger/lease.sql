-- The lock that the active instance holds.

-- name: lock
-- Try to become the one active instance of this ledger ($1 is the lock's class); the key is the
-- ledger table's own oid. No row while a restore or a migration has not come to its end: a restore
-- adds primary keys after all data. Names are looked up as the statement runs, never kept.
SELECT l.oid::oid AS ledger_oid,
       pg_try_advisory_lock($1::integer, l.oid::oid::bigint::bit(32)::integer) AS acquired
FROM to_regclass('ledger') AS l (oid)
WHERE EXISTS (SELECT FROM pg_index WHERE indrelid = to_regclass('line') AND indisprimary)
  AND EXISTS (SELECT FROM ledger WHERE bound_at IS NOT NULL)

-- name: end_silent_holder
-- End an instance's session that holds the lock of the class $1 if its last statement began $2
-- seconds ago and the server waits for the rest of it: it fell silent within a request. A migration
-- has waited for the lock as long, and is left alone; so is whoever this role may not end.
SELECT pg_terminate_backend(a.pid)
FROM pg_locks AS l
JOIN pg_stat_activity AS a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.mode = 'ExclusiveLock'
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid = $1::integer::oid AND l.objid = to_regclass('ledger')::oid AND l.objsubid = 2
  AND a.application_name LIKE 'callstatsd lock%' AND pg_has_role(a.usesysid, 'USAGE')
  AND a.state <> 'idle' AND a.wait_event_type = 'Client'
  AND a.query_start < clock_timestamp() - make_interval(secs => $2)

-- name: last_holder
-- Whose the instance's row is, and of which ledger; whether it has stopped in order.
SELECT lease, ledger_oid, stopped_at IS NOT NULL AS stopped FROM instance

-- name: ping
-- Show the server that the holder of the lock lives, and the holder that its session does, and
-- which tables it is about, NULL if none. It must wait for nobody: it locks no table.
SELECT to_regclass('ledger')::oid

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
