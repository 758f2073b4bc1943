"""Continuous models of optimisers, from gradient flow to series in the learning rate."""
