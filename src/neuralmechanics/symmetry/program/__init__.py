"""What the walk over a model speaks: primitives, views, and why nothing is claimed."""
