"""Tests of ``symmetry/finding``: counts of whole networks held against brute-force null spaces."""
