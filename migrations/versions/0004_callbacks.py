"""The feed of callback requests, and what the endpoint answered to a delivered line."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE line ADD COLUMN answer text",
    """
    COMMENT ON COLUMN line.answer IS
        'The beginning of what the endpoint answered to a callback; dropped with the record'
    """,
    """
    COMMENT ON COLUMN line.call_id IS
        'ID of StatisticsPartA; of a callback the ID of AcdEvents, and the other ids are 0'
    """,
    "ALTER TABLE feed ADD COLUMN pause_reason text, ADD COLUMN retry_at timestamptz",
    """
    COMMENT ON COLUMN feed.pause_reason IS
        'Why the sender pauses this feed, as the active instance last reported; NULL: it does not'
    """,
    "COMMENT ON COLUMN feed.retry_at IS 'When that pause is tried again; NULL: a person ends it'",
    "INSERT INTO feed (name) VALUES ('callbacks')",
    "ALTER TABLE act ADD COLUMN feed text",
    """
    COMMENT ON COLUMN act.feed IS
        'Only lines of this feed were chosen, and call_id is of it; NULL: of all feeds'
    """,
)


def upgrade() -> None:
    """Add columns and a feed; no line is written."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: a ledger goes forward only, or it would forget lines."""
    raise NotImplementedError
