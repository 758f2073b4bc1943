"""Exact homogeneous linear systems and their local null spaces."""
