"""Lists of settled lines: by feed and state, newest first."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Costs each settled line one more entry, at the end of its feed's and state's part.
STATEMENTS = (
    """
    CREATE INDEX line_listed ON line (feed, state, settled_at) WHERE state <> 'pending'
    """,
)


def upgrade() -> None:
    """Add an index; no line is written."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: a ledger goes forward only, or it would forget lines."""
    raise NotImplementedError
