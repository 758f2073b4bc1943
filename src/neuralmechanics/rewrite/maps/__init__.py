"""Symmetries in the formats of other tools."""
