"""Tests of `experiments.measuring`."""
