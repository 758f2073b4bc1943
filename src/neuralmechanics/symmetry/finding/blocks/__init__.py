"""Blocks that may be exchanged whole: experts behind a router, heads and networks beside one another."""
