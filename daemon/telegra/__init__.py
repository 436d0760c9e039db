"""Another maker's ACD: its notifications become rows of the source tables."""
