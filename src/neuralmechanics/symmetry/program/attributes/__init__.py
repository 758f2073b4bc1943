"""What primitives hold beside their operands: einsum letters, index maps, views, functions."""
