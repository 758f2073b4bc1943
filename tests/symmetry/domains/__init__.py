"""Tests of ``symmetry/domains``: interpretations of the program."""
