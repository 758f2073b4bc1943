"""Rotations of pairs of channels, however they are written, as sums of channels times data."""
