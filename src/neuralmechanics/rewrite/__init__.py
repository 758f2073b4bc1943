"""Using symmetries: a model rewritten exactly, checkpoints compared modulo all symmetries, maps for other tools."""
