-- Times in which notifications of a Telegra ACD were refused.

-- name: note_gap
-- Note that $3 were refused from $1 to $2; what is less than a minute after the last is one gap.
WITH last AS (
    UPDATE gap SET until = greatest(until, $2::timestamptz), refused = refused + $3::bigint
    WHERE id = (SELECT max(id) FROM gap)
      AND $1::timestamptz BETWEEN since AND until + interval '1 min'
    RETURNING id
)
INSERT INTO gap (since, until, refused)
SELECT $1::timestamptz, $2::timestamptz, $3::bigint WHERE NOT EXISTS (SELECT FROM last)

-- name: gaps
-- The gaps that overlap [$1, $2], the newest $3 of them, newest first.
SELECT since, until, refused FROM gap
WHERE until >= $1::timestamptz AND since <= $2::timestamptz
ORDER BY until DESC LIMIT $3

-- name: prune_gaps
-- Remove gaps that ended $1 seconds ago.
DELETE FROM gap WHERE until < now() - make_interval(secs => $1::double precision)
