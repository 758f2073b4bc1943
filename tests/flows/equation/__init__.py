"""Tests of `flows.equation`."""
