"""Tests of `flows.comparison`."""
