"""Flows past the edge of stability: descent oscillates, and its average obeys an equation of its own."""
