"""How far calls without an end are taken, which STALE_CALL_AFTER may change."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the watermark of calls without an end; the first poll sets it."""
    op.execute("ALTER TABLE ledger ADD COLUMN never_ended_until timestamptz")


def downgrade() -> None:
    """Refuse: a ledger goes forward only, or it would forget lines."""
    raise NotImplementedError
