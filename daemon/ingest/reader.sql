-- What the source is: its clock, encoding, columns and indexes.

-- name: columns
-- Columns that the search path shows for the tables $1: table, column and type, lower case.
SELECT c.relname AS table_name, a.attname AS column_name, format_type(a.atttypid, NULL) AS type
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relname = ANY ($1::text[]) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND pg_table_is_visible(c.oid)

-- name: indexed
-- First columns of the valid indexes on the tables $1, lower case.
SELECT c.relname AS table_name, a.attname AS column_name
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indrelid
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
WHERE c.relname = ANY ($1::text[]) AND c.relkind IN ('r', 'p', 'm')
  AND i.indisvalid AND i.indpred IS NULL AND pg_table_is_visible(c.oid)

-- name: views
-- Which of the tables $1 are views, whose indexes nobody can see from here.
SELECT c.relname AS table_name FROM pg_class AS c
WHERE c.relname = ANY ($1::text[]) AND c.relkind IN ('v', 'f') AND pg_table_is_visible(c.oid)

-- name: clock
-- The source's now, its database, and on a hot standby the last replayed transaction's time.
SELECT now() AS now,
       current_database() AS database,
       pg_is_in_recovery() AS standby,
       CASE WHEN pg_is_in_recovery() THEN pg_last_xact_replay_timestamp() END AS replayed

-- name: encoding
-- The encoding of the source's database.
SELECT current_setting('server_encoding')
