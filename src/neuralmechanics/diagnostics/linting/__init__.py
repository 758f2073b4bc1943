"""What symmetry says about a model before a step is taken."""
