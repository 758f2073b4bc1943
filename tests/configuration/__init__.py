"""Tests of the configuration floor."""
