"""Alembic's entry: `callstatsd migrate` hands in a connection; `alembic upgrade --sql` has none."""

import os

from alembic import context

config = context.config
schema = (
    config.attributes.get("schema")
    or context.get_x_argument(as_dictionary=True).get("schema")
    or os.environ.get("CALLSTATSD_LEDGER_SCHEMA")
    or "callstatsd"
)
quoted = '"' + schema.replace('"', '""') + '"'

if context.is_offline_mode():
    context.configure(
        dialect_name="postgresql", version_table_schema=schema, transactional_ddl=True
    )
    with context.begin_transaction():
        context.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted}")
        context.execute(f"SET LOCAL search_path TO {quoted}")
        context.run_migrations()
elif connection := config.attributes.get("connection"):
    context.configure(connection=connection, version_table_schema=schema)
    context.run_migrations()
else:
    raise SystemExit(
        "Run `callstatsd migrate`, or `alembic upgrade head --sql` for a script to run by hand."
    )
