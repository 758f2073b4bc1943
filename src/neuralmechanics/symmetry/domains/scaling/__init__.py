"""Scales: the logarithm of the factor of every element."""
