"""Tests of ``symmetry/families``: what a symmetry is, and what it does to parameters."""
