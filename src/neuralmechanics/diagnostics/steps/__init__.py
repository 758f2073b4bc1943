"""How far an optimiser's step is from the geometry of the symmetries."""
