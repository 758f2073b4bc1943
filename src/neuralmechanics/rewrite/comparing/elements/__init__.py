"""Elements of a model's symmetry group: made of steps, applied to parameters and to an optimiser's state."""
