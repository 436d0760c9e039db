"""One row for each feed of what is counted by feed; why a line was skipped, as a word."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# A constant default is kept in the catalogue: no line is written.
LINES = (
    "ALTER TABLE line ADD COLUMN feed text NOT NULL DEFAULT 'statistics'",
    "COMMENT ON COLUMN line.feed IS 'Which rows of the source it was made of'",
    """
    ALTER TABLE line
        DROP CONSTRAINT line_pkey,
        ADD CONSTRAINT line_pkey PRIMARY KEY (call_id, group_id, leg_id, code_id, feed)
    """,
    "DROP INDEX line_pending",
    """
    CREATE INDEX line_pending ON line (feed, backfill, call_ended, call_id, ordinal)
        WHERE state = 'pending'
    """,
)

FEEDS = (
    """
    CREATE TABLE feed (
        name               text PRIMARY KEY,
        start_from         timestamptz,
        watermark          timestamptz,
        never_ended_until  timestamptz,
        swept_at           timestamptz,
        pruned_before      timestamptz,
        dropped_before     timestamptz,
        endpoint_proven    boolean NOT NULL DEFAULT false,
        delivered_at       timestamptz,
        paused_since       timestamptz,
        paused_seconds     double precision NOT NULL DEFAULT 0
    )
    """,
    """
    COMMENT ON TABLE feed IS
        'For each feed: how far its lines are taken, and what is known of its endpoint'
    """,
    """
    COMMENT ON COLUMN feed.never_ended_until IS
        'Up to which start calls without an end are taken; NULL before the first poll'
    """,
    """
    INSERT INTO feed (name, start_from, watermark, never_ended_until, swept_at, pruned_before,
                      dropped_before, endpoint_proven, delivered_at, paused_since, paused_seconds)
    SELECT 'statistics', start_from, watermark, never_ended_until, swept_at, pruned_before,
           dropped_before, endpoint_proven, delivered_at, paused_since, paused_seconds
    FROM ledger
    """,
    """
    ALTER TABLE ledger
        DROP COLUMN start_from, DROP COLUMN watermark, DROP COLUMN never_ended_until,
        DROP COLUMN swept_at, DROP COLUMN pruned_before, DROP COLUMN dropped_before,
        DROP COLUMN endpoint_proven, DROP COLUMN delivered_at, DROP COLUMN paused_since,
        DROP COLUMN paused_seconds
    """,
    """
    COMMENT ON TABLE ledger IS
        'One row: whose calls these are, and whether an operator has paused sending'
    """,
    "ALTER TABLE streak ADD COLUMN feed text NOT NULL DEFAULT 'statistics'",
    "COMMENT ON COLUMN streak.feed IS 'Whose endpoint failed'",
)

# The sentences that the programs of earlier versions wrote. `filtered` is for lines that the
# settings keep out.
SKIPPED = (
    """
    ALTER TABLE line ADD COLUMN skip_reason text
        CHECK (skip_reason IN ('no_id', 'discarded', 'filtered'))
    """,
    "COMMENT ON COLUMN line.skip_reason IS 'Why a skipped line was; last_error says it to people'",
    """
    UPDATE line
    SET skip_reason = CASE last_error WHEN 'discarded by operator' THEN 'discarded' ELSE 'no_id' END
    WHERE state = 'skipped' AND last_error IN (
        'discarded by operator', 'no Salesforce id in the code''s or the call''s UserData'
    )
    """,
)

STATEMENTS = (*SKIPPED, *LINES, *FEEDS)


def upgrade() -> None:
    """Add columns and a table; index all lines anew, and write only skipped ones."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: a ledger goes forward only, or it would forget lines."""
    raise NotImplementedError
