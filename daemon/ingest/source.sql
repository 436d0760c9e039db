-- The ACD's tables, read only. Names in braces are its tables: the table
-- itself, or a subquery that makes whole numbers of ids where a view has them as text.

-- name: newest_start
-- The start of the newest call.
SELECT max(a.dtCallStart)::timestamptz FROM {StatisticsPartA} AS a

-- name: newest_clients
-- ClientsIDs of the newest 100,000 calls, $1 before all others, then those with most calls.
SELECT n.ClientsID
FROM (SELECT a.ClientsID FROM {StatisticsPartA} AS a ORDER BY a.dtCallStart DESC LIMIT 100000) AS n
WHERE n.ClientsID IS NOT NULL
GROUP BY n.ClientsID
ORDER BY n.ClientsID = $1::bigint DESC, count(*) DESC
LIMIT 6

-- name: group_names
-- The names of all groups.
SELECT g.Name::text FROM {AcdGroups} AS g

-- name: ended
-- Calls that ended in [$1, $2], after the cursor ($3, $4), of client $5 (or all), at most $6. $3
-- and $4 have the columns' own types, so that local times page right on both nights of the year. It
-- is written with OR so that the index is entered at $1: entered at $3 it would be read from its
-- start.
SELECT a.ID AS call_id, a.ID AS row_id, a.dtCallEnd AS cursor, a.dtCallEnd::timestamptz AS moment
FROM {StatisticsPartA} AS a
WHERE a.dtCallEnd >= $1::timestamptz AND a.dtCallEnd <= $2::timestamptz
  AND (a.dtCallEnd > $3 OR a.dtCallEnd = $3 AND a.ID > $4)
  AND ($5::bigint IS NULL OR a.ClientsID = $5::bigint)
ORDER BY a.dtCallEnd, a.ID
LIMIT $6

-- name: count_ended
-- How many calls of client $3 (or all) ended in [$1, $2].
SELECT count(*) FROM {StatisticsPartA} AS a
WHERE a.dtCallEnd >= $1::timestamptz AND a.dtCallEnd <= $2::timestamptz
  AND ($3::bigint IS NULL OR a.ClientsID = $3::bigint)

-- name: never_ended
-- Calls without an end that started in [$1, $2]; cursor, client and limit as in ended.
SELECT a.ID AS call_id, a.ID AS row_id, a.dtCallStart AS cursor,
       a.dtCallStart::timestamptz AS moment
FROM {StatisticsPartA} AS a
WHERE a.dtCallEnd IS NULL
  AND a.dtCallStart >= $1::timestamptz AND a.dtCallStart <= $2::timestamptz
  AND (a.dtCallStart > $3 OR a.dtCallStart = $3 AND a.ID > $4)
  AND ($5::bigint IS NULL OR a.ClientsID = $5::bigint)
ORDER BY a.dtCallStart, a.ID
LIMIT $6

-- name: late_codes
-- Codes created in [$1, $2] for calls taken before: ended by $7, or without an end and started
-- by $8; never of calls from before the floor $9. Rest as in ended.
SELECT a.ID AS call_id, t.ID AS row_id, t.dtCreated AS cursor, t.dtCreated::timestamptz AS moment
FROM {AcdStatisticsTransactionCodes} AS t
JOIN {StatisticsPartA} AS a ON a.ID = t.StatisticsPartAID
WHERE t.dtCreated >= $1::timestamptz AND t.dtCreated <= $2::timestamptz
  AND (t.dtCreated > $3 OR t.dtCreated = $3 AND t.ID > $4)
  AND ($5::bigint IS NULL OR a.ClientsID = $5::bigint)
  AND (a.dtCallEnd <= $7::timestamptz
       OR a.dtCallEnd IS NULL AND a.dtCallStart <= $8::timestamptz)
  AND coalesce(a.dtCallEnd::timestamptz, a.dtCallStart::timestamptz) >= $9::timestamptz
ORDER BY t.dtCreated, t.ID
LIMIT $6

-- name: about
-- The times of the call $1 and how many rows it has, whichever client's it is.
SELECT a.ClientsID AS clients_id, a.dtCallStart::timestamptz AS started,
       a.dtCallEnd::timestamptz AS ended,
       (SELECT count(*) FROM {AcdStatisticsPartB} AS g WHERE g.StatisticsPartAID = a.ID) AS visits,
       (SELECT count(*) FROM {StatisticsPartB} AS b WHERE b.StatisticsPartAID = a.ID) AS legs,
       (SELECT count(*) FROM {AcdStatisticsTransactionCodes} AS t
        WHERE t.StatisticsPartAID = a.ID) AS codes
FROM {StatisticsPartA} AS a
WHERE a.ID = $1::bigint

-- name: rows
-- Part of the statements below: the rows of the calls $1.
WITH call AS MATERIALIZED (
    SELECT a.* FROM {StatisticsPartA} AS a WHERE a.ID = ANY ($1::bigint[])
),
visit AS MATERIALIZED (
    SELECT g.* FROM {AcdStatisticsPartB} AS g WHERE g.StatisticsPartAID = ANY ($1::bigint[])
),
leg AS MATERIALIZED (
    SELECT b.* FROM {StatisticsPartB} AS b WHERE b.StatisticsPartAID = ANY ($1::bigint[])
),
code AS MATERIALIZED (
    SELECT t.* FROM {AcdStatisticsTransactionCodes} AS t
    WHERE t.StatisticsPartAID = ANY ($1::bigint[])
)

-- name: expansion
-- Part of the statements below: the calls' data lines as keys, with what orders them. A call's
-- visits, in them legs, in them codes; then legs without a visit; then codes without a leg. What
-- belongs to no call of $1 by its StatisticsPartAID is left out, so that every row gives its lines
-- in one call only.
attempt AS (
    SELECT call.ID AS call_id, visit.ID AS visit_id, leg.ID AS leg_id,
           coalesce(leg.AcdStatisticsPartBID, visit.ID) AS group_id,
           visit.dtGroupStart AS visit_start, leg.dtCallStart AS leg_start
    FROM call
    LEFT JOIN (
        visit FULL JOIN leg
        ON leg.AcdStatisticsPartBID = visit.ID AND leg.StatisticsPartAID = visit.StatisticsPartAID
    ) ON call.ID = coalesce(visit.StatisticsPartAID, leg.StatisticsPartAID)
),
line AS (
    SELECT coalesce(attempt.call_id, code.StatisticsPartAID) AS call_id,
           CASE WHEN attempt.call_id IS NULL THEN code.AcdStatisticsPartBID
                ELSE attempt.group_id END AS group_id,
           coalesce(attempt.leg_id, code.StatisticsPartBID) AS leg_id,
           code.ID AS code_id,
           CASE WHEN attempt.visit_id IS NOT NULL THEN 1
                WHEN attempt.call_id IS NOT NULL THEN 2
                ELSE 3 END AS part,
           attempt.visit_start, attempt.visit_id, attempt.leg_start,
           attempt.leg_id IS NOT NULL AS has_leg
    FROM attempt
    FULL JOIN code
    ON code.StatisticsPartBID = attempt.leg_id AND code.StatisticsPartAID = attempt.call_id
)

-- name: records
-- Part of the statements below: all that a record is made of, for the keys in `line`. UserData
-- comes along as far as it may be an id, of a call once for all its lines.
, identity AS MATERIALIZED (
    SELECT call.ID AS call_id,
           {call_user_data} AS user_data
    FROM call
)
SELECT line.call_id,
       coalesce(line.group_id, 0) AS group_id,
       coalesce(line.leg_id, 0) AS leg_id,
       coalesce(line.code_id, 0) AS code_id,
       coalesce(call.dtCallEnd, call.dtCallStart)::timestamptz AS call_ended,
       call.ID AS call_number,
       call.bOutbound AS outbound,
       call.ANumber::text AS a_number,
       call.BNumber::text AS b_number,
       identity.user_data AS call_user_data,
       {code_user_data} AS code_user_data,
       agent.UID::text AS agent_uid,
       service.Name::text AS service_number,
       service.Name2::text AS service_name,
       agent_group.Name::text AS agent_group,
       CASE WHEN visit.AcdConfigurationGroupsID IS NULL THEN agent_group.Name::text
            ELSE configuration_group.Name::text END AS configuration_group,
       call.dtCallStart AS call_start,
       call.dtCallEnd AS call_end,
       call.CauseCodesID AS call_cause,
       line.has_leg,
       leg.dtCallStart AS leg_start,
       leg.dtCallAlert AS leg_alert,
       leg.dtCallConnect AS leg_connect,
       leg.dtCallEnd AS leg_end,
       leg.CONNRES AS leg_connres,
       leg.CauseCodesID AS leg_cause,
       transaction_code.ExportKey::text AS export_key
FROM line
JOIN call ON call.ID = line.call_id
JOIN identity ON identity.call_id = line.call_id
LEFT JOIN visit ON visit.ID = line.group_id AND visit.StatisticsPartAID = line.call_id
LEFT JOIN leg ON line.has_leg AND leg.ID = line.leg_id AND leg.StatisticsPartAID = line.call_id
LEFT JOIN code ON code.ID = line.code_id AND code.StatisticsPartAID = line.call_id
LEFT JOIN {ServiceNumbers} AS service ON service.ID = call.ServiceNumbersID
LEFT JOIN {Users} AS agent ON agent.ID = coalesce(leg.UsersID, code.UsersID)
LEFT JOIN {AcdGroups} AS agent_group
       ON agent_group.ID = coalesce(visit.AcdAgentGroupsID, visit.AcdGroupsID)
LEFT JOIN {AcdGroups} AS configuration_group
       ON configuration_group.ID = visit.AcdConfigurationGroupsID
LEFT JOIN {TransactionCodes} AS transaction_code
       ON transaction_code.ID = code.TransactionCodesID

-- name: lines
-- The data lines of the calls $1, in sending order.
{rows},
{expansion}
{records}
ORDER BY call_ended, line.call_id, line.part, line.visit_start, line.visit_id,
         line.leg_start, CASE WHEN line.has_leg THEN line.leg_id END, code.dtCreated, line.code_id

-- name: keys
-- The keys of the data lines of the calls $1, no more: for comparing with the ledger.
{rows},
{expansion}
SELECT call_id, coalesce(group_id, 0) AS group_id, coalesce(leg_id, 0) AS leg_id,
       coalesce(code_id, 0) AS code_id
FROM line

-- name: digest
-- How many data lines the calls $1 have, and the sum of their keys' hashes. A record's hash is a
-- sum itself: hashed once more, so that two rows that exchange a part have another sum.
{rows},
{expansion}
SELECT count(*) AS lines,
       sum(hashint8extended(hash_record_extended(
           ROW (call_id, coalesce(group_id, 0), coalesce(leg_id, 0), coalesce(code_id, 0)), 0
       ), 0)) AS digest
FROM line

-- name: lines_by_key
-- The lines of the keys ($2, $3, $4, $5), of the calls $1, from whatever rows are still there.
{rows},
line AS (
    SELECT n.call_id, n.group_id, n.leg_id, n.code_id, leg.ID IS NOT NULL AS has_leg
    FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
         AS n (call_id, group_id, leg_id, code_id)
    LEFT JOIN leg ON leg.ID = n.leg_id AND leg.StatisticsPartAID = n.call_id
)
{records}
ORDER BY call_ended, line.call_id, line.group_id, line.leg_id, line.code_id
