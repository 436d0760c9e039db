-- Notifications of a Telegra ACD and the rows that they become. Locks are taken in one order by
-- every transaction: calls by (CustomerNumber, TaskID), events by fingerprint, then the rows.

-- name: find_calls
-- The calls that classifications mean: $1 customers, $2 their keys, as text with commas. Of several
-- the first key's counts, then the newest call.
SELECT DISTINCT ON (said.number) said.number, call.CustomerNumber, call.TaskID
FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS said (customer, keys, number)
CROSS JOIN LATERAL unnest(string_to_array(said.keys, ',')) WITH ORDINALITY AS k (key, choice)
JOIN TelegraCalls AS call ON call.CustomerNumber = said.customer AND call.CodeKey = k.key
ORDER BY said.number, k.choice, call.StatisticsPartAID DESC

-- name: lock_calls
-- Make or lock the calls of $1 customers, $2 taskids, with $3 keys. Settled is a call whose end is
-- written, and $4 has passed since.
INSERT INTO TelegraCalls AS call (CustomerNumber, TaskID, CodeKey, dtLatest)
SELECT told.customer, told.task_id, told.code_key, now()
FROM unnest($1::bigint[], $2::text[], $3::text[]) AS told (customer, task_id, code_key)
ORDER BY told.customer, told.task_id
ON CONFLICT (CustomerNumber, TaskID) DO UPDATE SET TaskID = call.TaskID
RETURNING call.StatisticsPartAID AS id, call.CustomerNumber AS customer, call.TaskID AS task_id,
          call.CodeKey AS code_key, call.bEnded AS ended, call.xmax = 0 AS is_new,
          (call.bEnded AND call.dtCallEnd + $4::interval <= clock_timestamp()) IS TRUE AS settled

-- name: keep
-- Keep notifications that are no repetitions, with ids in the order given: $1 fingerprints,
-- $2 commands, $3 customers, $4 calls, $5 keys of classifications with commas, $6 parameters,
-- $7 their times, $8 which are late.
WITH told AS MATERIALIZED (
    SELECT nextval('TelegraIDs') AS id, clock_timestamp() AS received, said.*
    FROM unnest($1::bytea[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[],
                $7::timestamptz[], $8::boolean[])
         AS said (fingerprint, command, customer, call_id, keys, parameters, at, late)
)
INSERT INTO TelegraEvents (ID, Fingerprint, Command, CustomerNumber, StatisticsPartAID, CodeKeys,
                           Parameters, dtEvent, dtReceived, bLate)
SELECT told.id, told.fingerprint, told.command, told.customer, told.call_id,
       string_to_array(told.keys, ','), told.parameters::jsonb, told.at, told.received, told.late
FROM told
ORDER BY told.fingerprint
ON CONFLICT (Fingerprint) DO NOTHING
RETURNING ID AS id, Fingerprint AS fingerprint

-- name: bind_codes
-- Give classifications that waited at most $5 to their calls: $1 ids, $2 customers, $3 keys, and
-- $4 whether each is settled. Of several the first key's counts, then the newest call.
WITH meant AS (
    SELECT DISTINCT ON (event.ID) event.ID AS id, call.id AS call_id, call.settled
    FROM TelegraEvents AS event
    JOIN unnest($1::bigint[], $2::bigint[], $3::text[], $4::boolean[])
         AS call (id, customer, code_key, settled)
      ON call.customer = event.CustomerNumber AND call.code_key = ANY (event.CodeKeys)
    WHERE event.CodeKeys IS NOT NULL AND event.StatisticsPartAID IS NULL
      AND event.dtReceived > now() - $5::interval
    ORDER BY event.ID, array_position(event.CodeKeys, call.code_key), call.id DESC
)
UPDATE TelegraEvents AS event SET StatisticsPartAID = meant.call_id, bLate = meant.settled
FROM meant WHERE event.ID = meant.id AND event.StatisticsPartAID IS NULL
RETURNING event.ID AS id, event.StatisticsPartAID AS call_id

-- name: waiting
-- Classifications that waited at most $1 and whose call is known by now, at most $2.
SELECT event.CustomerNumber AS customer, array_to_string(event.CodeKeys, ',') AS keys
FROM TelegraEvents AS event
WHERE event.CodeKeys IS NOT NULL AND event.StatisticsPartAID IS NULL
  AND event.dtReceived > now() - $1::interval
  AND EXISTS (SELECT FROM TelegraCalls AS call
              WHERE call.CustomerNumber = event.CustomerNumber
                AND call.CodeKey = ANY (event.CodeKeys))
LIMIT $2

-- name: kept
-- The notifications of the calls $1 that their rows are made of.
SELECT event.StatisticsPartAID AS call_id, event.ID AS id, event.Command AS command,
       event.dtEvent AS at, event.Parameters::text AS parameters
FROM TelegraEvents AS event
WHERE event.StatisticsPartAID = ANY ($1::bigint[])
  AND (NOT event.bLate OR event.CodeKeys IS NOT NULL)

-- name: legs
-- The legs of the calls $1, in their order.
SELECT leg.ID, leg.StatisticsPartAID, leg.AcdStatisticsPartBID, leg.UsersID, leg.dtCallStart,
       leg.dtCallAlert, leg.dtCallConnect, leg.dtCallEnd, leg.CONNRES, leg.CauseCodesID
FROM StatisticsPartB AS leg
WHERE leg.StatisticsPartAID = ANY ($1::bigint[])
ORDER BY leg.dtCallStart, leg.ID

-- name: name_codes
-- Make TransactionCodes of $1 categories and $2 reasons that are new.
WITH named AS (
    INSERT INTO TelegraCodes (ClassificationCategoryID, ClassificationReason)
    SELECT said.category, said.reason
    FROM unnest($1::text[], $2::text[]) AS said (category, reason)
    ORDER BY said.category, said.reason
    ON CONFLICT DO NOTHING
    RETURNING TransactionCodesID, ClassificationReason
)
INSERT INTO TransactionCodes (ID, ExportKey)
SELECT named.TransactionCodesID, named.ClassificationReason FROM named
ON CONFLICT (ID) DO NOTHING

-- name: codes
-- The TransactionCodes of $1 categories and $2 reasons.
SELECT code.ClassificationCategoryID AS category, code.ClassificationReason AS reason,
       code.TransactionCodesID AS id
FROM TelegraCodes AS code
JOIN unnest($1::text[], $2::text[]) AS said (category, reason)
  ON md5(said.category) = md5(code.ClassificationCategoryID)
 AND md5(said.reason) = md5(code.ClassificationReason)

-- name: write_calls
-- Write StatisticsPartA anew, column by column; $12 is the end where it may be written.
INSERT INTO StatisticsPartA AS call (
    ID, ClientsID, ServiceNumbersID, bOutbound, ANumber, BNumber, dtCallStart, dtCallAlert,
    dtCallConnect, CauseCodesID, UserData, dtCallEnd
)
SELECT * FROM unnest(
    $1::bigint[], $2::bigint[], $3::bigint[], $4::boolean[], $5::text[], $6::text[],
    $7::timestamptz[], $8::timestamptz[], $9::timestamptz[], $10::integer[], $11::text[],
    $12::timestamptz[]
)
ON CONFLICT (ID) DO UPDATE SET
    ClientsID = EXCLUDED.ClientsID, ServiceNumbersID = EXCLUDED.ServiceNumbersID,
    bOutbound = EXCLUDED.bOutbound, ANumber = EXCLUDED.ANumber, BNumber = EXCLUDED.BNumber,
    dtCallStart = EXCLUDED.dtCallStart, dtCallAlert = EXCLUDED.dtCallAlert,
    dtCallConnect = EXCLUDED.dtCallConnect, CauseCodesID = EXCLUDED.CauseCodesID,
    UserData = EXCLUDED.UserData, dtCallEnd = EXCLUDED.dtCallEnd

-- name: write_visits
-- Write AcdStatisticsPartB of the calls $1 anew: $2 ids, $3 calls, $4 groups, $5 starts.
WITH gone AS (
    DELETE FROM AcdStatisticsPartB AS visit
    WHERE visit.StatisticsPartAID = ANY ($1::bigint[]) AND visit.ID <> ALL ($2::bigint[])
)
INSERT INTO AcdStatisticsPartB AS visit (ID, StatisticsPartAID, AcdGroupsID, dtGroupStart)
SELECT * FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::timestamptz[])
ON CONFLICT (ID) DO UPDATE SET
    AcdGroupsID = EXCLUDED.AcdGroupsID, dtGroupStart = EXCLUDED.dtGroupStart
WHERE (visit.AcdGroupsID, visit.dtGroupStart)
      IS DISTINCT FROM (EXCLUDED.AcdGroupsID, EXCLUDED.dtGroupStart)

-- name: write_legs
-- Write StatisticsPartB of the calls $1 anew: from $2 on its columns.
WITH gone AS (
    DELETE FROM StatisticsPartB AS leg
    WHERE leg.StatisticsPartAID = ANY ($1::bigint[]) AND leg.ID <> ALL ($2::bigint[])
)
INSERT INTO StatisticsPartB AS leg (
    ID, StatisticsPartAID, AcdStatisticsPartBID, UsersID, dtCallStart, dtCallAlert, dtCallConnect,
    dtCallEnd, CONNRES, CauseCodesID
)
SELECT * FROM unnest(
    $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::timestamptz[], $7::timestamptz[],
    $8::timestamptz[], $9::timestamptz[], $10::integer[], $11::integer[]
)
ON CONFLICT (ID) DO UPDATE SET
    AcdStatisticsPartBID = EXCLUDED.AcdStatisticsPartBID, UsersID = EXCLUDED.UsersID,
    dtCallStart = EXCLUDED.dtCallStart, dtCallAlert = EXCLUDED.dtCallAlert,
    dtCallConnect = EXCLUDED.dtCallConnect, dtCallEnd = EXCLUDED.dtCallEnd,
    CONNRES = EXCLUDED.CONNRES, CauseCodesID = EXCLUDED.CauseCodesID
WHERE (leg.*) IS DISTINCT FROM (EXCLUDED.*)

-- name: write_codes
-- Write AcdStatisticsTransactionCodes: $1 ids, $2 calls, $3 visits, $4 legs, $5 codes, $6 agents,
-- $7 times.
INSERT INTO AcdStatisticsTransactionCodes AS code (
    ID, StatisticsPartAID, AcdStatisticsPartBID, StatisticsPartBID, TransactionCodesID, UsersID,
    dtCreated
)
SELECT * FROM unnest(
    $1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
    $7::timestamptz[]
)
ON CONFLICT (ID) DO UPDATE SET
    AcdStatisticsPartBID = EXCLUDED.AcdStatisticsPartBID,
    StatisticsPartBID = EXCLUDED.StatisticsPartBID
WHERE (code.AcdStatisticsPartBID, code.StatisticsPartBID)
      IS DISTINCT FROM (EXCLUDED.AcdStatisticsPartBID, EXCLUDED.StatisticsPartBID)

-- name: note_calls
-- Note of the calls $1 that something came: $2 starts, $3 ends, $4 which are incomplete, $5 whose
-- end is written.
UPDATE TelegraCalls AS call
SET dtLatest = clock_timestamp(), dtCallStart = told.started, dtCallEnd = told.ended,
    bIncomplete = told.incomplete, bEnded = told.written
FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[], $4::boolean[], $5::boolean[])
     AS told (id, started, ended, incomplete, written)
WHERE call.StatisticsPartAID = told.id

-- name: touch_calls
-- Note of the calls $1, which have no rows or are settled, that something came.
UPDATE TelegraCalls SET dtLatest = clock_timestamp() WHERE StatisticsPartAID = ANY ($1::bigint[])

-- name: make_users
-- Make users: $1 ids, $2 agents.
INSERT INTO Users (ID, UID)
SELECT said.id, said.uid FROM unnest($1::bigint[], $2::text[]) AS said (id, uid) ORDER BY said.id
ON CONFLICT (ID) DO NOTHING

-- name: make_groups
-- Make groups, $1 ids, or fill the name, $2, of one that has none.
INSERT INTO AcdGroups AS known (ID, Name)
SELECT said.id, said.name FROM unnest($1::bigint[], $2::text[]) AS said (id, name) ORDER BY said.id
ON CONFLICT (ID) DO UPDATE SET Name = EXCLUDED.Name
WHERE known.Name IS NULL AND EXCLUDED.Name IS NOT NULL

-- name: make_service_numbers
-- Make service numbers, $1 ids, or fill number, $2, and name, $3, where they are NULL.
INSERT INTO ServiceNumbers AS known (ID, Name, Name2)
SELECT said.id, said.number, said.name
FROM unnest($1::bigint[], $2::text[], $3::text[]) AS said (id, number, name)
ORDER BY said.id
ON CONFLICT (ID) DO UPDATE
SET Name = coalesce(known.Name, EXCLUDED.Name), Name2 = coalesce(known.Name2, EXCLUDED.Name2)
WHERE known.Name IS NULL AND EXCLUDED.Name IS NOT NULL
   OR known.Name2 IS NULL AND EXCLUDED.Name2 IS NOT NULL

-- name: plan_callbacks
-- Make callback requests, the events of type 3, of planned calls.
INSERT INTO AcdEvents (
    ID, ClientsID, UsersID, CreatingUsersID, Sender, Subject, EventData, UserData, dtCreated,
    AcdEventTypesID
)
SELECT planned.*, 3 FROM unnest(
    $1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::timestamptz[]
) AS planned

-- name: write_ends
-- Write the ends of calls of which nothing came for $1, at most $2; one that changes now is left.
WITH due AS (
    SELECT call.StatisticsPartAID AS id, call.dtCallEnd AS ended
    FROM TelegraCalls AS call
    WHERE call.dtCallEnd IS NOT NULL AND NOT call.bEnded
      AND call.dtLatest <= clock_timestamp() - $1::interval
    ORDER BY call.dtLatest
    LIMIT $2
    FOR UPDATE SKIP LOCKED
),
written AS (
    UPDATE StatisticsPartA AS called SET dtCallEnd = due.ended
    FROM due WHERE called.ID = due.id
)
UPDATE TelegraCalls AS call SET bEnded = true
FROM due WHERE call.StatisticsPartAID = due.id
RETURNING call.StatisticsPartAID AS id, call.bIncomplete AS incomplete

-- name: overview
-- When the latest notification came, how many calls that started within $1 have no end yet, and how
-- many classifications wait, for $2 at most, for their call.
SELECT (SELECT max(event.dtReceived) FROM TelegraEvents AS event) AS last_notification_at,
       (SELECT count(*) FROM TelegraCalls AS call
        WHERE NOT call.bEnded AND call.dtCallStart > now() - $1::interval) AS open_calls,
       (SELECT count(*) FROM TelegraEvents AS event
        WHERE event.CodeKeys IS NOT NULL AND event.StatisticsPartAID IS NULL
          AND event.dtReceived > now() - $2::interval) AS waiting_codes

-- name: call_of_task
-- The newest call with the taskid $1, in lower case.
SELECT call.StatisticsPartAID FROM TelegraCalls AS call
WHERE call.TaskID = $1 AND call.dtCallStart IS NOT NULL
ORDER BY call.StatisticsPartAID DESC LIMIT 1

-- name: prune_events
-- Remove notifications that are older than $1, at most $4, but those of a call with rows that may
-- still change: $2 after its end none may, and a classification waits for $3.
DELETE FROM TelegraEvents WHERE ID IN (
    SELECT event.ID FROM TelegraEvents AS event
    LEFT JOIN TelegraCalls AS call ON call.StatisticsPartAID = event.StatisticsPartAID
    WHERE event.dtReceived < now() - $1::interval
      AND (call.dtCallStart IS NULL OR call.bEnded AND call.dtCallEnd < now() - $2::interval)
      AND (event.CodeKeys IS NULL OR event.StatisticsPartAID IS NOT NULL
           OR event.dtReceived < now() - $3::interval)
    ORDER BY event.dtReceived
    LIMIT $4
)

-- name: prune_calls
-- Remove calls of which nothing came for $1, with all their rows, at most $2.
WITH old AS (
    SELECT call.StatisticsPartAID AS id FROM TelegraCalls AS call
    WHERE call.dtLatest < now() - $1::interval
    ORDER BY call.dtLatest LIMIT $2
    FOR UPDATE SKIP LOCKED
),
codes AS (
    DELETE FROM AcdStatisticsTransactionCodes WHERE StatisticsPartAID IN (SELECT id FROM old)
),
legs AS (DELETE FROM StatisticsPartB WHERE StatisticsPartAID IN (SELECT id FROM old)),
visits AS (DELETE FROM AcdStatisticsPartB WHERE StatisticsPartAID IN (SELECT id FROM old)),
calls AS (DELETE FROM StatisticsPartA WHERE ID IN (SELECT id FROM old)),
events AS (DELETE FROM TelegraEvents WHERE StatisticsPartAID IN (SELECT id FROM old))
DELETE FROM TelegraCalls WHERE StatisticsPartAID IN (SELECT id FROM old)

-- name: prune_planned
-- Remove callback requests of planned calls that were made $1 ago, at most $2.
DELETE FROM AcdEvents WHERE ID IN (
    SELECT event.ID FROM AcdEvents AS event
    WHERE event.dtCreated < now() - $1::interval ORDER BY event.dtCreated, event.ID LIMIT $2
)
