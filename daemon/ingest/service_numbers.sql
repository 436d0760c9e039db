-- Statements on the ACD's service numbers.

-- name: all
-- All service numbers with their names, lowest id first: one may be written in another form.
SELECT s.ID AS id, s.Name::text AS number, s.Name2::text AS name
FROM {ServiceNumbers} AS s
ORDER BY s.ID
