"""A training followed: what each step did to the charges, and what the laws make of it."""
