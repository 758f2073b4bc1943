"""The symmetry group of a model in parts that are solved for in turn."""
