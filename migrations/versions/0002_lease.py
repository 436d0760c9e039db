"""Whose lease the instance's row is, and of which ledger: what a copy brings back shows as such."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE instance ADD COLUMN lease text, ADD COLUMN ledger_oid oid",
    "COMMENT ON COLUMN instance.lease IS 'Which holding of the lock wrote this row'",
    """
    COMMENT ON COLUMN instance.ledger_oid IS
        'The oid of the table ledger at that time: another one in a ledger restored from a copy'
    """,
)


def upgrade() -> None:
    """Add what a new holder must know of the last one."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: a ledger goes forward only, or it would forget lines."""
    raise NotImplementedError
