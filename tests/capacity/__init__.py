"""How much a machine can do, for docs/capacity.md: `python -m tests.capacity`.

Tables for administrators; `tests.benchmark` compares with what is possible.
"""
