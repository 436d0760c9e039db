"""Which ledger this is: its version, and whose calls it holds."""

from dataclasses import dataclass, replace

from daemon.database import statements
from daemon.errors import ConfigurationError
from daemon.ledger.tables import LedgerTables

SCHEMA_VERSION = "0008"
"""The newest migration this program knows; revisions are numbers, so that they compare."""

_SQL = statements.load("ledger/binding.sql")


@dataclass(frozen=True, slots=True)
class Binding:
    """Whose calls a ledger holds: one client (None: all) of one source (None: not asked)."""

    clients_id: int | None
    source_database: str | None
    source_schemas: tuple[str, ...]

    def __str__(self) -> str:
        """Return client, database and schemas as a phrase for messages."""
        client = "all clients" if self.clients_id is None else f"client {self.clients_id}"
        return (
            f"{client} of database {self.source_database}, schemas {','.join(self.source_schemas)}"
        )


class BindingStore(LedgerTables):
    """Reads and checks what the ledger is, and binds it."""

    async def check_version(self) -> None:
        """Raise `ConfigurationError` unless migrations brought the ledger to our version."""
        found = await self._version()
        if found is None:
            raise ConfigurationError("the ledger does not exist yet: run `callstatsd migrate`")
        if found < SCHEMA_VERSION:
            raise ConfigurationError(
                f"the ledger is at version {found}, this program needs {SCHEMA_VERSION}: "
                "run `callstatsd migrate`"
            )
        _refuse_newer(found)

    async def is_outdated(self) -> bool:
        """Whether there is a ledger, of an older version than this program's."""
        found = await self._version()
        return found is not None and found < SCHEMA_VERSION

    async def check_upgradable(self) -> None:
        """Raise `ConfigurationError` where no migration of ours can help."""
        async with self.database.connection() as connection:
            encoding = await connection.fetchval(_SQL["encoding"])
        if encoding != "UTF8":
            raise ConfigurationError(
                f"the ledger's database has the encoding {encoding}, which cannot hold every "
                "name: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and name it in "
                "CALLSTATSD_LEDGER_DSN"
            )
        _refuse_newer(await self._version() or SCHEMA_VERSION)

    async def _version(self) -> str | None:
        async with self.database.connection() as connection:
            if not await connection.fetchval(_SQL["migrated"]):
                return None
            found: str | None = await connection.fetchval(_SQL["version"])
        return found

    async def lacking_rights(self) -> str | None:
        """Name what this user lacks to write the ledger; None if nothing."""
        async with self.database.connection() as connection:
            lacking: str | None = await connection.fetchval(_SQL["lacking_rights"])
        return lacking

    async def exists(self) -> bool:
        """Whether migrations have made a ledger here."""
        return await self._version() is not None

    async def may_create(self, schema: str) -> bool:
        """Whether this user may create the ledger there."""
        async with self.database.connection() as connection:
            return bool(await connection.fetchval(_SQL["may_create"], schema))

    async def binding(self) -> Binding | None:
        """Return whose calls this ledger holds; None before the first `migrate`."""
        row = await self._only_row(_SQL["binding"])
        if row["bound_at"] is None:
            return None
        return Binding(row["clients_id"], row["source_database"], tuple(row["source_schemas"]))

    async def bind(self, binding: Binding, *, rebind: bool = False) -> None:
        """Bind an unbound ledger; a bound one is only compared, unless `rebind`."""
        async with self.database.connection() as connection:
            await connection.execute(
                _SQL["bind"],
                binding.clients_id,
                binding.source_database,
                list(binding.source_schemas),
                rebind,
            )
        await self.check_binding(binding)

    async def check_bindable(self, wanted: Binding) -> None:
        """Raise `ConfigurationError` for a ledger that is there and bound to other calls."""
        if await self.exists() and await self.binding() is not None:
            await self.check_binding(wanted)

    async def check_binding(self, wanted: Binding) -> None:
        """Raise `ConfigurationError` naming both, when the ledger belongs to other calls."""
        found = await self.binding()
        if found is None:
            raise ConfigurationError(
                "the ledger is not bound to a source yet: run `callstatsd migrate`"
            )
        if wanted.source_database is None:
            wanted = replace(wanted, source_database=found.source_database)
        if found != wanted:
            raise ConfigurationError(
                f"the ledger holds the lines of {found}, the settings name {wanted}: correct them, "
                "use another CALLSTATSD_LEDGER_SCHEMA, or run `callstatsd migrate --rebind`"
            )


def _refuse_newer(version: str) -> None:
    if version > SCHEMA_VERSION:
        raise ConfigurationError(
            f"the ledger is at version {version}, newer than this program's {SCHEMA_VERSION}: "
            "install the callstatsd that upgraded it, or a later one"
        )
