"""Tensors that are made in parts, as what they are in whole."""
