-- What the ledger is: its version, whose calls it holds, what this user may do.

-- name: version
-- The revision that migrations brought this ledger to; no row where there is no ledger.
SELECT version_num FROM alembic_version

-- name: migrated
-- Whether the ledger's tables exist in the search path.
SELECT to_regclass('alembic_version') IS NOT NULL AND to_regclass('ledger') IS NOT NULL

-- name: encoding
-- The encoding of the ledger's database.
SELECT current_setting('server_encoding')

-- name: lacking_rights
-- Tables of the ledger that this session may not change, NULL if none; a server that is read only
-- lets nobody change any.
SELECT CASE
    WHEN pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'
    THEN 'a primary that is not read only, and SELECT, INSERT, UPDATE, DELETE'
    ELSE (
        SELECT 'SELECT, INSERT, UPDATE, DELETE'
        FROM unnest(ARRAY['ledger', 'feed', 'line', 'lane', 'instance', 'streak', 'act',
                          'alert', 'gap']) AS t (name)
        WHERE NOT has_table_privilege(t.name, 'SELECT')
           OR NOT has_table_privilege(t.name, 'INSERT')
           OR NOT has_table_privilege(t.name, 'UPDATE')
           OR NOT has_table_privilege(t.name, 'DELETE')
        LIMIT 1
    )
END

-- name: may_create
-- Whether this user may create the schema $1, or tables in it.
SELECT CASE WHEN EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)
            THEN has_schema_privilege($1, 'CREATE')
            ELSE has_database_privilege(current_database(), 'CREATE') END

-- name: binding
-- Whose calls this ledger holds; bound_at is NULL before the first `migrate`.
SELECT clients_id, source_database, source_schemas, bound_at FROM ledger

-- name: bind
-- Bind to client $1, source database $2 and schemas $3, if it is unbound or $4 is true.
UPDATE ledger SET clients_id = $1, source_database = $2, source_schemas = $3, bound_at = now()
WHERE bound_at IS NULL OR $4
