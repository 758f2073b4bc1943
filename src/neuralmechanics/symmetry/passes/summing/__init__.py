"""Sums in the form that says most: what is stacked and summed is a sum, and so are exponents of a product."""
