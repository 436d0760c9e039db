-- Callback requests in the ACD's tables, read only. Names in braces are the tables, as in
-- source.sql.

-- name: ready
-- Requests created in [$1, $2], after the cursor ($3, $4), of client $5 (or all), at most $6, and
-- whether each is to be taken: not while its call has no end, unless it was created by $7, and none
-- whose client is unknown. Our own alerts are none. The calls are looked up by id for all at once.
WITH event AS MATERIALIZED (
    SELECT e.ID, e.ClientsID, e.StatisticsPartAID, e.dtCreated
    FROM {AcdEvents} AS e
    WHERE e.dtCreated >= $1::timestamptz AND e.dtCreated <= $2::timestamptz
      AND (e.dtCreated > $3 OR e.dtCreated = $3 AND e.ID > $4)
      AND e.AcdEventTypesID = 3
      AND left(e.UserData::text, 17) IS DISTINCT FROM 'callstatsd-alert-'
    ORDER BY e.dtCreated, e.ID
    LIMIT $6
),
call AS MATERIALIZED (
    SELECT a.ID, a.ClientsID, a.dtCallEnd
    FROM {StatisticsPartA} AS a
    WHERE a.ID = ANY (ARRAY(SELECT event.StatisticsPartAID FROM event))
)
SELECT event.ID AS call_id, event.ID AS row_id, event.dtCreated AS cursor,
       event.dtCreated::timestamptz AS moment,
       call.ID IS NULL OR call.dtCallEnd IS NOT NULL OR event.dtCreated <= $7::timestamptz
       AS settled,
       $5::bigint IS NULL OR (coalesce(event.ClientsID, call.ClientsID) = $5::bigint) IS TRUE
       AS ours
FROM event
LEFT JOIN call ON call.ID = event.StatisticsPartAID
ORDER BY event.dtCreated, event.ID

-- name: requests
-- All that the records of the requests $1 are made of. EventData of more than $2 octets is left
-- out, UserData comes along as far as it may be an id.
WITH event AS MATERIALIZED (
    SELECT e.* FROM {AcdEvents} AS e WHERE e.ID = ANY ($1::bigint[])
),
call AS MATERIALIZED (
    SELECT a.* FROM {StatisticsPartA} AS a
    WHERE a.ID = ANY (ARRAY(SELECT event.StatisticsPartAID FROM event))
)
SELECT event.ID AS event_id,
       event.dtCreated::timestamptz AS created,
       event.Sender::text AS sender,
       event.Receiver::text AS receiver,
       event.Subject::text AS subject,
       CASE WHEN octet_length(event.EventData::text) <= $2 THEN event.EventData::text END
       AS event_data,
       {event_user_data} AS event_user_data,
       event.SalesforceQueryResult AS query_result,
       event.AcdGroupsID AS group_id,
       event.AcdConfigurationGroupsID AS configuration_group_id,
       event.AcdAgentGroupsID AS agent_group_id,
       acd_group.Name::text AS group_name,
       acd_group.ForeignSystemID::text AS group_foreign_id,
       event.CreatingUsersID AS creator_id,
       creator.UID::text AS creator_uid,
       creator.NickName::text AS creator_nick_name,
       event.UsersID AS target_id,
       target.UID::text AS target_uid,
       target.NickName::text AS target_nick_name,
       call.ID IS NOT NULL AS has_call,
       call.bOutbound AS outbound,
       call.ANumber::text AS a_number,
       call.BNumber::text AS b_number,
       call.dtCallStart AS call_start,
       call.dtCallEnd AS call_end,
       {call_user_data} AS call_user_data,
       service.Name::text AS service_number,
       service.Name2::text AS service_name
FROM event
LEFT JOIN call ON call.ID = event.StatisticsPartAID
LEFT JOIN {ServiceNumbers} AS service ON service.ID = call.ServiceNumbersID
LEFT JOIN {AcdGroups} AS acd_group
       ON acd_group.ID = coalesce(event.AcdGroupsID, event.AcdConfigurationGroupsID,
                                  event.AcdAgentGroupsID)
LEFT JOIN {Users} AS creator ON creator.ID = event.CreatingUsersID
LEFT JOIN {Users} AS target ON target.ID = event.UsersID
ORDER BY event.dtCreated, event.ID

-- name: service_numbers
-- All service numbers with their names, lowest id first: a receiver may be written in another form.
SELECT s.Name::text AS number, s.Name2::text AS name FROM {ServiceNumbers} AS s ORDER BY s.ID

-- name: digest
-- How many keys the requests $1 give, and the sum of the keys' hashes, as the ledger computes it.
SELECT count(*) AS lines,
       sum(hashint8extended(hash_record_extended(
           ROW (n.id, 0::bigint, 0::bigint, 0::bigint), 0
       ), 0)) AS digest
FROM unnest($1::bigint[]) AS n (id)

-- name: created
-- When the requests $1 were created.
SELECT e.ID AS event_id, e.dtCreated::timestamptz AS moment
FROM {AcdEvents} AS e
WHERE e.ID = ANY ($1::bigint[])

-- name: about
-- What decides whether the event $1 is taken, whichever client's or type, with the end of its call.
SELECT event.AcdEventTypesID AS type_id,
       coalesce(event.ClientsID, call.ClientsID) AS clients_id,
       event.dtCreated::timestamptz AS created,
       left(event.UserData::text, 17) IS NOT DISTINCT FROM 'callstatsd-alert-' AS is_alert,
       call.ID AS call_id,
       call.dtCallEnd::timestamptz AS call_ended
FROM {AcdEvents} AS event
LEFT JOIN {StatisticsPartA} AS call ON call.ID = event.StatisticsPartAID
WHERE event.ID = $1::bigint
