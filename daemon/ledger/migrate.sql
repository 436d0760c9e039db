-- Coordination of migrations with running instances.

-- name: announce_upgrade
-- Say, for as long as the session lives, that a migration waits ($1 is the class with its version).
SELECT pg_advisory_lock_shared($1::integer, 'ledger'::regclass::oid::bigint::bit(32)::integer)

-- name: lock_patiently
-- Wait to become the one that has this ledger, before all who only try; likewise.
SELECT pg_advisory_lock($1::integer, 'ledger'::regclass::oid::bigint::bit(32)::integer)

-- name: instance
-- The instance that says that it has the ledger; no row where the last one stopped in order.
SELECT host, pid FROM instance WHERE stopped_at IS NULL
