-- What this user may do with the tables that the receiver writes.

-- name: rights
-- The tables $1, in lower case, that the search path shows, and whether we may change their rows.
SELECT c.relname AS name,
       has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
       AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')
       AS writable
FROM pg_class AS c
WHERE c.relname = ANY ($1::text[]) AND c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid)

-- name: sequence_right
-- Whether we may take numbers from the sequence $1.
SELECT has_sequence_privilege(c.oid, 'USAGE') FROM pg_class AS c
WHERE c.relname = $1 AND c.relkind = 'S' AND pg_table_is_visible(c.oid)
