"""Master rows that are there for certain, so that they are not made with each notification."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from daemon.database import statements
from daemon.telegra.rows import Masters

T = TypeVar("T")

_SQL = statements.load("telegra/store.sql")

MAX_KNOWN = 50_000
"""What is remembered; beyond it all is told to the database anew."""

Fact = tuple[str, int, object]
"""A table, an id and what was told of that row."""


class KnownMasters:
    """What was told of users, groups and service numbers and is committed."""

    def __init__(self) -> None:
        self._facts: set[Fact] = set()

    async def make(self, connection: Any, told: Masters) -> list[Fact]:
        """Make the rows that are not known; returns them, to be learnt after the commit."""
        users = self._unknown("users", told.users)
        groups = self._unknown("groups", told.groups)
        services = self._unknown("service_numbers", told.service_numbers)
        if users:
            await connection.execute(_SQL["make_users"], list(users), list(users.values()))
        if groups:
            await connection.execute(_SQL["make_groups"], list(groups), list(groups.values()))
        if services:
            numbers, names = map(list, zip(*services.values(), strict=True))
            await connection.execute(_SQL["make_service_numbers"], list(services), numbers, names)
        made: Iterable[tuple[str, Mapping[int, object]]] = (
            ("users", users),
            ("groups", groups),
            ("service_numbers", services),
        )
        return [(table, row_id, said) for table, rows in made for row_id, said in rows.items()]

    def learn(self, facts: Iterable[Fact]) -> None:
        """Remember what is committed."""
        if len(self._facts) > MAX_KNOWN:
            self._facts.clear()
        self._facts.update(facts)

    def _unknown(self, table: str, rows: Mapping[int, T]) -> dict[int, T]:
        return {
            row_id: said
            for row_id, said in rows.items()
            if (table, row_id, said) not in self._facts
        }
