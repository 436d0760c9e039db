"""Measures the daemon on this machine against what the machine can do: `python -m tests.benchmark`.

Every figure that counts is a ratio of two runs on one machine, taken in turns.
"""
