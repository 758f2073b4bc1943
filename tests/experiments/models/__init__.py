"""Tests of `experiments.models`."""
