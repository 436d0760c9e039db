"""Lines by the end of their call, also where retention has moved them about in the table."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# A range of pages holds lines of the day when it was filled, and of those when its free space was
# used again. Kept as one span from the first to the last, nearly every range would be read for
# nearly every day.
STATEMENTS = (
    "DROP INDEX line_call_ended",
    """
    CREATE INDEX line_call_ended ON line USING brin (call_ended timestamptz_minmax_multi_ops)
        WITH (pages_per_range = 32, autosummarize = on)
    """,
)


def upgrade() -> None:
    """Replace an index; no line is written."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: a ledger goes forward only, or it would forget lines."""
    raise NotImplementedError
