"""Runs the daemon for long under load and faults: `python -m tests.soak --minutes 30`.

It looks for what no short test shows: memory and descriptors that grow, lines that fall behind, are
lost, or are sent again for no reason.
"""
