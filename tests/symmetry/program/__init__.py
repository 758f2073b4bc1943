"""Tests of ``symmetry/program``: the typed program."""
