"""Tests of the symmetry engine against an independent numerical truth."""
