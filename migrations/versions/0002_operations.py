"""What operating needs: acts of people, streaks of a failing endpoint, and whose lease it was."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STREAKS = (
    """
    CREATE TABLE streak (
        id        bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
        since     timestamptz NOT NULL,
        until     timestamptz NOT NULL,
        ended_at  timestamptz
    )
    """,
    """
    COMMENT ON TABLE streak IS
        'Rows of failing answers that paused the sender (endpoint_failing), until none is refused'
    """,
    "COMMENT ON COLUMN streak.since IS 'When the first of its lines was settled'",
    "COMMENT ON COLUMN streak.until IS 'When the last of its lines was settled'",
    "COMMENT ON COLUMN streak.ended_at IS 'When its pause ended; NULL while it lasts'",
    "ALTER TABLE line ADD COLUMN probe_failed_at timestamptz",
    """
    COMMENT ON COLUMN line.probe_failed_at IS
        'When it was last sent as a probe of a failing endpoint, and answered no better'
    """,
)

# What a copy of the ledger brings back must not pass for the last holder's word.
LEASE = (
    "ALTER TABLE instance ADD COLUMN lease text, ADD COLUMN ledger_oid oid",
    "COMMENT ON COLUMN instance.lease IS 'Which holding of the lock wrote this row'",
    """
    COMMENT ON COLUMN instance.ledger_oid IS
        'The oid of the table ledger at that time: another one in a ledger restored from a copy'
    """,
)

STATEMENTS = (*STREAKS, *LEASE)


def upgrade() -> None:
    """Add tables and columns; no line is changed."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: a ledger goes forward only, or it would forget lines."""
    raise NotImplementedError
