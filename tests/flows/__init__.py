"""Tests of the flows floor."""
