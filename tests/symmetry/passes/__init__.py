"""Tests of ``symmetry/passes``: program to program, and facts about it."""
