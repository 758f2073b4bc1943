"""Models against the optimiser: distances, orders of accuracy, and how charges move under each."""
