"""Derivatives of a loss above the first: taken in one place, right, or refused."""
