"""Tests of the functional floor."""
