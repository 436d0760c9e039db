"""Writes the rights that the two users need, as SQL for a DBA. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from daemon.database.errors import Place
from daemon.database.pool import quoted
from daemon.ingest.schema import TABLES


@dataclass(frozen=True, slots=True)
class Grants:
    """Whose rights to what: the ledger's user, the source's user, and the schemas.

    With a sequence the source's user also writes its tables, with numbers of that.
    """

    role: str
    ledger: Place
    ledger_schema: str
    source: Place
    source_schemas: Sequence[str]
    source_tables: Sequence[str] = tuple(TABLES)
    sequence: str | None = None

    @property
    def apart(self) -> bool:
        """Whether source and ledger are two databases, so that each part is run in its own."""
        return (self.ledger.hosts, self.ledger.database) != (
            self.source.hosts,
            self.source.database,
        )

    @property
    def source_role(self) -> str:
        """The source's user: the one that its DSN names, where that is not the ledger's."""
        if self.source.user and self.source.user != self.ledger.user:
            return self.source.user
        return self.role

    def script(self, migrations: str) -> str:
        """Return the migrations with the grants, in the order in which a DBA runs them."""
        roles = dict.fromkeys((self.role, self.source_role))
        heading = (
            "-- Run this with psql as a superuser, or as the owner of database and tables.\n"
            "-- The users must be there already; if they are not, first run:\n"
        ) + "".join(f"--   CREATE ROLE {quoted(role)} LOGIN PASSWORD '…';\n" for role in roles)
        for_ledger, for_source = f"{migrations}\n{self._for_ledger()}", self._for_source()
        if self.apart:
            for_ledger = _only_in(self.ledger, "Part 1 of 2", for_ledger)
            for_source = _only_in(self.source, "Part 2 of 2", for_source)
        return f"{heading}\n{for_ledger}\n{for_source}"

    def _for_ledger(self) -> str:
        schema, role = quoted(self.ledger_schema), quoted(self.role)
        return _transaction(
            f"The ledger's user {role} reads and writes the daemon's own tables.",
            *_connect(self.ledger, role),
            f"GRANT USAGE ON SCHEMA {schema} TO {role}",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}",
        )

    def _for_source(self) -> str:
        role = quoted(self.source_role)
        schemas = ", ".join(map(quoted, self.source_schemas))
        does, rights, numbers = "only reads", "SELECT", []
        if self.sequence is not None:
            does, rights = "reads and writes", "SELECT, INSERT, UPDATE, DELETE"
            numbers = [f"GRANT USAGE ON SEQUENCE {self.sequence} TO {role}"]
        return _transaction(
            f"The source's user {role} {does} {len(self.source_tables)} tables of the ACD, "
            "wherever in these schemas they are.",
            *_connect(self.source, role),
            f"GRANT USAGE ON SCHEMA {schemas} TO {role}",
            f"SET LOCAL search_path TO {schemas}",
            f"GRANT {rights} ON {', '.join(self.source_tables)} TO {role}",
            *numbers,
        )


def _connect(place: Place, role: str) -> list[str]:
    if not place.database:
        return []
    return [f"GRANT CONNECT ON DATABASE {quoted(place.database)} TO {role}"]


def _only_in(place: Place, part: str, script: str) -> str:
    """Head a part with the database in which to run it; in any other it changes nothing."""
    if place.database:
        name = place.database.replace("'", "''")
        guard = (
            f"DO $$ BEGIN IF current_database() <> '{name}' THEN\n"
            f"    RAISE EXCEPTION '{part} is for the database {name}';\n"
            "END IF; END $$;\n"
        )
        script = script.replace("BEGIN;\n", f"BEGIN;\n{guard}")
    shown = f"the database {place.database}" if place.database else "the database"
    return f"-- {part}: run it in {shown} at {place.hosts}.\n\n{script}"


def _transaction(heading: str, *statements: str) -> str:
    lines = "".join(f"{statement};\n" for statement in statements)
    return f"-- {heading}\nBEGIN;\n{lines}COMMIT;\n"
