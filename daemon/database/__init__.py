"""Postgres: pools, outages and named statements."""
