"""What surrounds each page."""

import pytest

from daemon.settings.model import Settings
from daemon.web.frame import whose


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("postgresql://erika:geheim@db1,db2:5433/jtel?sslmode=require", "jtel on db1,db2:5433"),
        ("postgresql://erika:geheim@acd-db", "of the default name on acd-db"),
        ("postgresql://erika@/jtel?host=/run/postgresql&port=5434", "jtel on /run/postgresql:5434"),
    ],
)
def test_whose_instance_it_is_is_said_without_users_and_passwords(source: str, place: str) -> None:
    alone = Settings(source_dsn=source)
    assert whose(alone) == (
        "All clients",
        f"ACD: database {place}",
        f"Ledger: database {place}, schema callstatsd",
    )
    ledger = "postgresql://max:geheim@[::1]:5432/ledger"
    named = Settings(
        source_dsn=source, ledger_dsn=ledger, clients_id=7, instance="north", ledger_schema="north"
    )
    assert whose(named) == (
        "Instance north",
        "Client 7",
        f"ACD: database {place}",
        "Ledger: database ledger on [::1]:5432, schema north",
    )
