"""Tests of `flows.integration`."""
