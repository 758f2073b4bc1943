"""How symmetries act on parameters: generators, finite transformations, charges."""
