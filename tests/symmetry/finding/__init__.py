"""Tests of ``symmetry/finding``: whole searches."""
