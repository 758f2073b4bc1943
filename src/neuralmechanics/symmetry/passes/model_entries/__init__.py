"""Rewritings by what the model itself holds: places in tables, masks, frequencies that are zero."""
