"""Symmetries of a black box, from gradients alone."""
