"""Alerts to a group of the ACD: each has a number, and a line knows which alert counted it."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

LEDGER = (
    """
    ALTER TABLE ledger
        ADD COLUMN alerts_since timestamptz, ADD COLUMN code text, ADD COLUMN code_of oid
    """,
    "COMMENT ON COLUMN ledger.alerts_since IS 'When alerts were first on; NULL: never'",
    "COMMENT ON COLUMN ledger.code IS 'Tells the alerts of this ledger from those of others'",
    "COMMENT ON COLUMN ledger.code_of IS 'The oid of this table when it got its code'",
)

ALERTS = (
    """
    CREATE TABLE alert (
        number         integer PRIMARY KEY,
        rejected       bigint NOT NULL,
        expired        bigint NOT NULL,
        invalid        bigint NOT NULL,
        tries          integer NOT NULL DEFAULT 0,
        requested_at   timestamptz NOT NULL,
        retry_at       timestamptz,
        raised_at      timestamptz,
        given_up_at    timestamptz,
        acd_events_id  bigint,
        error          text
    )
    """,
    "COMMENT ON TABLE alert IS 'Events of the ACD about lines that are not in Salesforce'",
    "COMMENT ON COLUMN alert.tries IS 'Failed requests that may be repeated, one after another'",
    "COMMENT ON COLUMN alert.requested_at IS 'When its lines were counted, for a request'",
    "COMMENT ON COLUMN alert.retry_at IS 'When it is tried again; NULL: nothing was heard yet'",
)

LINES = (
    "ALTER TABLE line ADD COLUMN alert_number integer, ADD COLUMN alert_generation integer",
    "COMMENT ON COLUMN line.alert_number IS 'The alert that counts it'",
    """
    COMMENT ON COLUMN line.alert_generation IS
        'The generation that the alert counted; a later one counts again'
    """,
    """
    CREATE INDEX line_unalerted ON line (settled_at)
        WHERE state IN ('rejected', 'expired', 'invalid')
          AND alert_generation IS DISTINCT FROM generation
    """,
    """
    CREATE INDEX line_alerted ON line (alert_number)
        WHERE state IN ('rejected', 'expired', 'invalid') AND alert_number IS NOT NULL
    """,
)

STATEMENTS = (*LEDGER, *ALERTS, *LINES)


def upgrade() -> None:
    """Add a table, columns and indexes; no line is written."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: a ledger goes forward only, or it would forget lines."""
    raise NotImplementedError
