"""The point of least norm on an orbit."""
