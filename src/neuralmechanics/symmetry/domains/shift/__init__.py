"""Shifts: the first-order change of every tensor when constants are added to parameters."""
