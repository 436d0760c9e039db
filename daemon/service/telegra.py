"""What an instance does for a Telegra ACD: it receives, keeps and tidies up, beside the sender."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from daemon.errors import CallstatsdError, ConfigurationError, first_error
from daemon.ledger.gaps import GapStore
from daemon.ledger.store import Ledger
from daemon.service.connections import retry_until_reachable
from daemon.settings.model import Settings
from daemon.tasks import in_background
from daemon.telegra.receiver import Receiver
from daemon.telegra.store import Rules, TelegraStore, open_store
from daemon.telegra.tables import table_faults
from daemon.telegra.upkeep import Ages, Upkeep
from daemon.web.health import InstanceState
from daemon.web.telegra_door import TelegraDoor


@dataclass(frozen=True, slots=True)
class Telegra:
    """The parts of a running instance that receives notifications."""

    store: TelegraStore
    door: TelegraDoor


@asynccontextmanager
async def open_telegra(
    settings: Settings, ledger: Ledger, state: InstanceState
) -> AsyncIterator[Telegra | None]:
    """Receive notifications while the block runs; None where that is off."""
    token = settings.telegra_token.get_secret_value()
    if not token:
        yield None
        return
    dsn = settings.source_dsn.get_secret_value()
    async with open_store(dsn, settings.source_schemas, rules_of_calls(settings)) as store:
        receiver = Receiver(store)
        ages = Ages(
            timedelta(seconds=settings.retention),
            timedelta(seconds=settings.stale_call_after),
            timedelta(seconds=settings.lookback),
        )
        upkeep = Upkeep(store, receiver, GapStore(ledger.database), ages, lambda: state.active)
        door = TelegraDoor(receiver, token, settings.telegra_allow, settings.source_timezone)
        try:
            async with in_background(receiver.run(), upkeep.run()):
                yield Telegra(store, door)
        except* CallstatsdError as errors:
            raise first_error(errors) from errors
        finally:
            await upkeep.note_last_gap()


def rules_of_calls(settings: Settings) -> Rules:
    """Return what the settings say of calls."""
    return Rules(
        settings.telegra_country_code,
        timedelta(seconds=settings.telegra_grace),
        timedelta(seconds=settings.settle_delay),
        timedelta(seconds=settings.lookback),
    )


async def check_tables(telegra: Telegra | None, stop: asyncio.Event) -> None:
    """Raise `ConfigurationError` for tables that are missing or may not be written.

    A source that is away is waited for.
    """
    if telegra is None:
        return
    store = telegra.store

    async def check() -> None:
        if faults := await table_faults(store.database):
            raise ConfigurationError(*faults)

    await retry_until_reachable(check, stop, lambda: None)
