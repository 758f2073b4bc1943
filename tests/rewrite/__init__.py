"""Rewrites: what is claimed to leave a model's function as it is does so."""
