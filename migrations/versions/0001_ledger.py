"""The ledger: every data line ever taken, what was sent and what came back."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE ledger (
        single           boolean PRIMARY KEY DEFAULT true CHECK (single),
        clients_id       bigint,
        source_database  text,
        source_schemas   text[],
        bound_at         timestamptz,
        start_from       timestamptz,
        watermark        timestamptz,
        swept_at         timestamptz,
        pruned_before    timestamptz,
        dropped_before   timestamptz,
        endpoint_proven  boolean NOT NULL DEFAULT false,
        delivered_at     timestamptz,
        paused_since     timestamptz,
        paused_seconds   double precision NOT NULL DEFAULT 0,
        held_since       timestamptz,
        held_reason      text
    )
    """,
    """
    COMMENT ON TABLE ledger IS
        'One row: whose calls these are, how far they are taken, whether sending is paused'
    """,
    "INSERT INTO ledger DEFAULT VALUES",
    """
    CREATE TABLE line (
        call_id        bigint NOT NULL,
        group_id       bigint NOT NULL,
        leg_id         bigint NOT NULL,
        code_id        bigint NOT NULL,
        ordinal        integer NOT NULL,
        lane           text NOT NULL,
        salesforce_id  text,
        call_ended     timestamptz NOT NULL,
        backfill       boolean NOT NULL,
        state          text NOT NULL CHECK (state IN ('pending', 'delivered', 'conflict',
                           'not_found', 'rejected', 'expired', 'invalid', 'skipped')),
        generation     integer NOT NULL DEFAULT 0,
        record         text,
        attempts       integer NOT NULL DEFAULT 0,
        tries          integer NOT NULL DEFAULT 0,
        unanswered     integer NOT NULL DEFAULT 0,
        last_status    integer,
        last_error     text,
        taken_at       timestamptz NOT NULL DEFAULT now(),
        pending_since  timestamptz NOT NULL DEFAULT now(),
        first_try      double precision,
        next_try_at    timestamptz,
        settled_at     timestamptz,
        PRIMARY KEY (call_id, group_id, leg_id, code_id)
    )
    """,
    """
    COMMENT ON COLUMN line.lane IS
        'Lines of one lane are sent one at a time: the 15-character record id, or the own key'
    """,
    "COMMENT ON COLUMN line.generation IS 'Raised by people; an answer to an older one is void'",
    "COMMENT ON COLUMN line.tries IS 'Failed attempts since the line last became pending'",
    """
    COMMENT ON COLUMN line.first_try IS
        'First attempt since the line last became pending: epoch less all pauses, in seconds'
    """,
    """
    CREATE INDEX line_pending ON line (backfill, call_ended, call_id, ordinal)
        WHERE state = 'pending'
    """,
    "CREATE INDEX line_lane ON line (lane)",
    "CREATE INDEX line_kept ON line (state) WHERE state IN ('rejected', 'expired', 'invalid')",
    """
    CREATE INDEX line_failed ON line (settled_at)
        WHERE state IN ('conflict', 'not_found', 'rejected', 'expired', 'invalid')
    """,
    # Small ranges, known as soon as they are full: what lies in none is read by every sweep.
    """
    CREATE INDEX line_call_ended ON line USING brin (call_ended)
        WITH (pages_per_range = 32, autosummarize = on)
    """,
    """
    CREATE INDEX line_settled_at ON line USING brin (settled_at)
        WITH (pages_per_range = 32, autosummarize = on)
    """,
    """
    CREATE TABLE lane (
        lane   text PRIMARY KEY,
        until  timestamptz NOT NULL,
        tries  integer NOT NULL
    )
    """,
    "COMMENT ON TABLE lane IS 'Records that hold back their own lines: locked, or unanswered'",
    """
    CREATE TABLE instance (
        single      boolean PRIMARY KEY DEFAULT true CHECK (single),
        host        text NOT NULL,
        pid         integer NOT NULL,
        version     text NOT NULL,
        started_at  timestamptz NOT NULL,
        beat_at     timestamptz NOT NULL,
        stopped_at  timestamptz,
        unclean_at  timestamptz,
        state       text NOT NULL,
        reason      text,
        retry_at    timestamptz
    )
    """,
    "COMMENT ON TABLE instance IS 'What the instance that holds the ledger is doing'",
    """
    COMMENT ON COLUMN instance.unclean_at IS
        'When an instance took over from one that was killed: what was pending may have arrived'
    """,
)


def upgrade() -> None:
    """Create the ledger's tables in the schema that the search path names first."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: a ledger goes forward only, or it would forget lines."""
    raise NotImplementedError
