"""A running instance, put together."""
