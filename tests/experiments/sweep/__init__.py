"""Tests of `experiments.sweep`."""
