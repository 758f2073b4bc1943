"""Exact rewrites of a model: fold, rotate, smooth, equalise, untie, centre, permute; each with its certificate."""
