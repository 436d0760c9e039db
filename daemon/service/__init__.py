"""Composes a running instance."""
