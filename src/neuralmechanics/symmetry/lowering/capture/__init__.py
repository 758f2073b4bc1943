"""The model's computation as one graph of ATen operations."""
