"""Faults that are planted on purpose: `python -m tests.faults` shows which of them the tests catch."""
