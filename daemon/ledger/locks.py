"""Classes of the advisory locks, the first half of their keys; the second is the ledger's oid."""

ACTIVE_LOCK = 0x63616C6C
"""Held by the one active instance."""
DAEMON_LOCK = ACTIVE_LOCK + 1
"""Shared by every `run` for as long as it lives, active or not."""
RETENTION_LOCK = ACTIVE_LOCK + 2
"""Shared by backfills, against retention."""
UPGRADE_LOCK = ACTIVE_LOCK + 0x10000
"""Plus a version: held by a migration to it while it waits for the active instance."""
LAST_VERSION = 9999
"""Revisions are four digits."""
