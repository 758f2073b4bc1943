"""Tests of ``symmetry/algebra``: exact null spaces of sparse systems."""
