"""Families read off null spaces: which solutions are the channels of one family, and how it acts."""
