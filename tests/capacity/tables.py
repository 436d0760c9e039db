"""Tables in markdown that are filled column by column."""

from dataclasses import dataclass, field


@dataclass
class Table:
    """A table whose first column has names; a cell that a column lacks stays empty."""

    heading: str
    columns: dict[str, dict[str, str]] = field(default_factory=dict)

    def column(self, name: str) -> dict[str, str]:
        """Return a column, to be filled by the names of its rows."""
        return self.columns.setdefault(name, {})

    def markdown(self) -> str:
        names = list(dict.fromkeys(name for column in self.columns.values() for name in column))
        rows = [
            [self.heading, *self.columns],
            ["---"] * (1 + len(self.columns)),
            *(
                [name, *(column.get(name, "") for column in self.columns.values())]
                for name in names
            ),
        ]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)
