"""Abstract interpretations: how labels, shifts and representations pass through an operation."""
