"""Values that maps of the same data multiply and add to: y = g(c)·h + b(c)."""
