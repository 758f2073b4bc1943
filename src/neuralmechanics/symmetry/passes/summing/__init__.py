"""Sums in the form that says most: what is stacked and summed is a sum."""
