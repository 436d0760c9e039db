"""The daemon's own tables: every data line ever taken, what was sent and what came back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from daemon.database.pool import Database, quoted
from daemon.ledger.alerts import AlertStore
from daemon.ledger.binding import BindingStore
from daemon.ledger.instance import InstanceStore
from daemon.ledger.pruning import PruningStore
from daemon.ledger.sending import SendingStore
from daemon.ledger.taking import TakingStore


class Ledger(BindingStore, TakingStore, SendingStore, InstanceStore, PruningStore, AlertStore):
    """All that an instance and the commands do with a ledger, over one pool of connections."""


@asynccontextmanager
async def open_ledger(dsn: str, schema: str) -> AsyncIterator[Ledger]:
    """Open the ledger's database; it need not be there yet."""
    session = {
        "search_path": quoted(schema),
        # A plan for all parameters alike would walk the whole table where most ask for little.
        "plan_cache_mode": "force_custom_plan",
        # What a frozen instance was just writing must not stay locked for the one that takes over.
        "idle_in_transaction_session_timeout": "10s",
    }
    async with Database("ledger", dsn, session=session, size=9) as database:
        yield Ledger(database)
