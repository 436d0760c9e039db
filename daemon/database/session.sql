-- What is asked of any session, whichever database it is of.

-- name: settings
-- What the session has for the settings $1, NULL for one that the server does not know.
SELECT name, current_setting(name, true) FROM unnest($1::text[]) AS name

-- name: backend
-- The server's process that serves this statement.
SELECT pg_backend_pid()
