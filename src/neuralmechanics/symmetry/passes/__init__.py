"""Facts about a captured model that every kind of symmetry uses."""
