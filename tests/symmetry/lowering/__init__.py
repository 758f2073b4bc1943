"""Tests of ``symmetry/lowering``: from torch to the program."""
