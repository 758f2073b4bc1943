"""Tests of `flows.models`."""
