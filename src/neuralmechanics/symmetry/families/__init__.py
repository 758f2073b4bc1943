"""What a symmetry is: a name, what breaks it, and how it acts on parameters."""
