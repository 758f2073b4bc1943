"""Lie algebras of vector fields, level by level."""
