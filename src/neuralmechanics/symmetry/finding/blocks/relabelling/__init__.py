"""Relabelings of a program: what becomes of every value where parameters change places."""
