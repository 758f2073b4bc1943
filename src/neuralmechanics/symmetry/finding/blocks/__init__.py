"""Blocks that may be exchanged whole, such as experts behind a router that picks some of them for each row."""
