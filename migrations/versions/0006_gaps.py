"""Times in which notifications of a Telegra ACD were refused."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE gap (
        id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        since    timestamptz NOT NULL,
        until    timestamptz NOT NULL,
        refused  bigint NOT NULL
    )
    """,
    "COMMENT ON TABLE gap IS 'When notifications of a Telegra ACD were refused, and how many'",
    "COMMENT ON COLUMN gap.until IS 'The last refusal'",
)


def upgrade() -> None:
    """Add a table; no line is written."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: a ledger goes forward only, or it would forget lines."""
    raise NotImplementedError
