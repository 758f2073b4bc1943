"""How many independent conservation laws a training has."""
