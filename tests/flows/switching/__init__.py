"""Tests of `flows.switching`."""
