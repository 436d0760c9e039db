-- The ACD's own tables as callstatsd reads them: for the demo, the tests and a new installation.
-- Only what the daemon needs; a real ACD database has more. Run it with search_path set to the
-- source schema, or let `callstatsd migrate --reference-schema` do it. Safe to repeat.

CREATE TABLE IF NOT EXISTS StatisticsPartA (
    ID               bigint PRIMARY KEY,
    ClientsID        bigint NOT NULL,
    ServiceNumbersID bigint,
    bOutbound        boolean NOT NULL,
    ANumber          text,
    BNumber          text,
    dtCallStart      timestamptz(3) NOT NULL,
    dtCallAlert      timestamptz(3),
    dtCallConnect    timestamptz(3),
    dtCallEnd        timestamptz(3),
    CauseCodesID     integer,
    UserData         text
);
CREATE INDEX IF NOT EXISTS statisticsparta_dtcallend ON StatisticsPartA (dtCallEnd, ID);
CREATE INDEX IF NOT EXISTS statisticsparta_dtcallstart ON StatisticsPartA (dtCallStart, ID);

CREATE TABLE IF NOT EXISTS AcdStatisticsPartB (
    ID                       bigint PRIMARY KEY,
    StatisticsPartAID        bigint NOT NULL,
    AcdGroupsID              bigint,
    AcdAgentGroupsID         bigint,
    AcdConfigurationGroupsID bigint,
    dtGroupStart             timestamptz(3)
);
CREATE INDEX IF NOT EXISTS acdstatisticspartb_statisticspartaid
    ON AcdStatisticsPartB (StatisticsPartAID);

CREATE TABLE IF NOT EXISTS StatisticsPartB (
    ID                   bigint PRIMARY KEY,
    StatisticsPartAID    bigint NOT NULL,
    AcdStatisticsPartBID bigint,
    UsersID              bigint,
    dtCallStart          timestamptz(3),
    dtCallAlert          timestamptz(3),
    dtCallConnect        timestamptz(3),
    dtCallEnd            timestamptz(3),
    CONNRES              integer,
    CauseCodesID         integer
);
CREATE INDEX IF NOT EXISTS statisticspartb_statisticspartaid
    ON StatisticsPartB (StatisticsPartAID);

CREATE TABLE IF NOT EXISTS AcdStatisticsTransactionCodes (
    ID                   bigint PRIMARY KEY,
    StatisticsPartAID    bigint NOT NULL,
    AcdStatisticsPartBID bigint,
    StatisticsPartBID    bigint,
    TransactionCodesID   bigint NOT NULL,
    UsersID              bigint,
    dtCreated            timestamptz(3) NOT NULL,
    UserData             text
);
CREATE INDEX IF NOT EXISTS acdstatisticstransactioncodes_dtcreated
    ON AcdStatisticsTransactionCodes (dtCreated, ID);
CREATE INDEX IF NOT EXISTS acdstatisticstransactioncodes_statisticspartaid
    ON AcdStatisticsTransactionCodes (StatisticsPartAID);

CREATE TABLE IF NOT EXISTS ServiceNumbers (ID bigint PRIMARY KEY, Name text, Name2 text);
CREATE TABLE IF NOT EXISTS Users (ID bigint PRIMARY KEY, UID text, NickName text);
CREATE TABLE IF NOT EXISTS AcdGroups (ID bigint PRIMARY KEY, Name text, ForeignSystemID text);
CREATE TABLE IF NOT EXISTS TransactionCodes (ID bigint PRIMARY KEY, ExportKey text);

-- Where an earlier version made these tables.
ALTER TABLE Users ADD COLUMN IF NOT EXISTS NickName text;
ALTER TABLE AcdGroups ADD COLUMN IF NOT EXISTS ForeignSystemID text;

-- Callback requests are the events of type 3.
CREATE TABLE IF NOT EXISTS AcdEvents (
    ID                       bigint PRIMARY KEY,
    ClientsID                bigint,
    AcdEventTypesID          integer NOT NULL,
    AcdGroupsID              bigint,
    AcdConfigurationGroupsID bigint,
    AcdAgentGroupsID         bigint,
    UsersID                  bigint,
    CreatingUsersID          bigint,
    StatisticsPartAID        bigint,
    Sender                   text,
    Receiver                 text,
    Subject                  text,
    EventData                text,
    UserData                 text,
    SalesforceQueryResult    integer,
    dtCreated                timestamptz(3) NOT NULL
);
CREATE INDEX IF NOT EXISTS acdevents_dtcreated ON AcdEvents (dtCreated, ID);
