"""What operating needs: acts, streaks, leases, and how far never-ended calls are taken."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ACTS = (
    """
    CREATE TABLE act (
        id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        kind           text NOT NULL
                       CHECK (kind IN ('pause', 'resume', 'requeue', 'discard', 'backfill')),
        who            text NOT NULL,
        began_at       timestamptz NOT NULL DEFAULT now(),
        ended_at       timestamptz,
        states         text[] NOT NULL DEFAULT '{}',
        since          timestamptz,
        until          timestamptz,
        settled_since  timestamptz,
        settled_until  timestamptz,
        call_id        bigint,
        backfill       boolean NOT NULL DEFAULT false,
        resend         boolean NOT NULL DEFAULT false,
        reason         text,
        lines          bigint NOT NULL DEFAULT 0
    )
    """,
    "COMMENT ON TABLE act IS 'What people did with the commands; kept as long as lines'",
    "COMMENT ON COLUMN act.who IS 'user@host; the user that ran sudo, where it was sudo'",
    "COMMENT ON COLUMN act.ended_at IS 'NULL while it is under way, and for ever if it was killed'",
    "COMMENT ON COLUMN act.backfill IS 'Whether only lines of backfills were chosen'",
    "COMMENT ON COLUMN act.lines IS 'Lines changed so far, written with each batch of them'",
    "ALTER TABLE line ADD COLUMN act_id bigint",
    """
    COMMENT ON COLUMN line.act_id IS
        'The act that last put the line back, withdrew it or, as a backfill, took it'
    """,
    # No foreign key: it would cost each line of a backfill a look-up. Acts are removed only here.
    "CREATE INDEX line_act ON line (act_id) WHERE act_id IS NOT NULL",
    "ALTER TABLE ledger ADD COLUMN probe_requested bigint",
    "COMMENT ON COLUMN ledger.probe_requested IS 'The latest act that asked to try again at once'",
    "ALTER TABLE instance ADD COLUMN probe_answered bigint",
    """
    COMMENT ON COLUMN instance.probe_answered IS
        'The latest of these whose outcome the instance''s state and reason tell'
    """,
)

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

TAKING = (
    "ALTER TABLE ledger ADD COLUMN never_ended_until timestamptz",
    """
    COMMENT ON COLUMN ledger.never_ended_until IS
        'Up to which start calls without an end are taken; NULL before the first poll'
    """,
)

STATEMENTS = (*ACTS, *STREAKS, *LEASE, *TAKING)


def upgrade() -> None:
    """Add tables and columns; no line is changed."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: a ledger goes forward only, or it would forget lines."""
    raise NotImplementedError
