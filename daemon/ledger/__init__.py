"""The daemon's own tables."""
