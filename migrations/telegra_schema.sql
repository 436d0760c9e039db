-- The receiver's own tables beside the ACD's (reference_schema.sql), for an instance that receives
-- the notifications of a Telegra ACD. Run it with search_path set to the source schema, or let
-- `callstatsd migrate --telegra` do it. Safe to repeat. Ids begin at 4·10^15, so that no key meets
-- another ACD's in one org, and are exact in JSON.

CREATE SEQUENCE IF NOT EXISTS TelegraIDs MINVALUE 4000000000000000;

-- One row for each call that was told of: which StatisticsPartA is its.
CREATE TABLE IF NOT EXISTS TelegraCalls (
    StatisticsPartAID bigint PRIMARY KEY DEFAULT nextval('TelegraIDs'),
    CustomerNumber    bigint NOT NULL,
    TaskID            text NOT NULL,
    CodeKey           text NOT NULL,
    dtCallStart       timestamptz,
    dtCallEnd         timestamptz,
    dtLatest          timestamptz NOT NULL,
    bEnded            boolean NOT NULL DEFAULT false,
    bIncomplete       boolean NOT NULL DEFAULT false,
    UNIQUE (TaskID, CustomerNumber)
);
COMMENT ON COLUMN TelegraCalls.TaskID IS 'in lower case';
COMMENT ON COLUMN TelegraCalls.CodeKey IS 'TaskID without leading zeros: as classifications have it';
COMMENT ON COLUMN TelegraCalls.dtCallEnd IS 'time of CallEnd, before StatisticsPartA has it';
COMMENT ON COLUMN TelegraCalls.dtLatest IS 'when the latest notification of the call came';
COMMENT ON COLUMN TelegraCalls.bEnded IS 'StatisticsPartA has the end';
COMMENT ON COLUMN TelegraCalls.bIncomplete IS 'said to be connected, without a connected leg';
CREATE INDEX IF NOT EXISTS telegracalls_codekey ON TelegraCalls (CustomerNumber, CodeKey);
CREATE INDEX IF NOT EXISTS telegracalls_dtlatest ON TelegraCalls (dtLatest);
CREATE INDEX IF NOT EXISTS telegracalls_ending
    ON TelegraCalls (dtLatest) WHERE dtCallEnd IS NOT NULL AND NOT bEnded;
CREATE INDEX IF NOT EXISTS telegracalls_open ON TelegraCalls (dtCallStart) WHERE NOT bEnded;

-- Every notification that was kept.
CREATE TABLE IF NOT EXISTS TelegraEvents (
    ID                bigint PRIMARY KEY DEFAULT nextval('TelegraIDs'),
    Fingerprint       bytea NOT NULL UNIQUE,
    Command           text NOT NULL,
    CustomerNumber    bigint NOT NULL,
    StatisticsPartAID bigint,
    CodeKeys          text[],
    Parameters        jsonb NOT NULL,
    dtEvent           timestamptz NOT NULL,
    dtReceived        timestamptz NOT NULL,
    bLate             boolean NOT NULL
);
COMMENT ON COLUMN TelegraEvents.Fingerprint IS 'repetitions have the same';
COMMENT ON COLUMN TelegraEvents.StatisticsPartAID IS 'the call; NULL while a code waits for it';
COMMENT ON COLUMN TelegraEvents.CodeKeys IS 'of a classification: the CodeKey that it may mean';
COMMENT ON COLUMN TelegraEvents.bLate IS 'came after the call was settled, and changed no row';
CREATE INDEX IF NOT EXISTS telegraevents_statisticspartaid ON TelegraEvents (StatisticsPartAID);
CREATE INDEX IF NOT EXISTS telegraevents_dtreceived ON TelegraEvents (dtReceived);
CREATE INDEX IF NOT EXISTS telegraevents_waiting
    ON TelegraEvents (dtReceived) WHERE CodeKeys IS NOT NULL AND StatisticsPartAID IS NULL;

-- What a classification is in TransactionCodes. The index is of digests, because both texts may be
-- longer than an index can hold.
CREATE TABLE IF NOT EXISTS TelegraCodes (
    ClassificationCategoryID text NOT NULL,
    ClassificationReason     text NOT NULL,
    TransactionCodesID       bigint PRIMARY KEY DEFAULT nextval('TelegraIDs')
);
CREATE UNIQUE INDEX IF NOT EXISTS telegracodes_texts
    ON TelegraCodes (md5(ClassificationCategoryID), md5(ClassificationReason));
