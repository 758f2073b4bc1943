"""Channels: which entries along each dimension may be permuted, mixed, scaled and flipped, and which with which."""
