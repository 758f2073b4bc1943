"""Pair, graph, routing, cache, derivative and frozen networks: every claimed family held by its transformation."""
