"""The public surface: `python -m tests.surface` writes down every public name with its signature."""
