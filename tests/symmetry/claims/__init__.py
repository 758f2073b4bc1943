"""Pair, graph, routing, cache, derivative and frozen networks: every claimed family held by its transformation."""

from . import (
    networks_cache,
    networks_derivatives,
    networks_frozen,
    networks_graph,
    networks_outside,
    networks_pair,
    networks_reused,
    networks_routing,
    networks_shared,
    networks_square,
)

__all__ = [
    "networks_cache",
    "networks_derivatives",
    "networks_frozen",
    "networks_graph",
    "networks_outside",
    "networks_pair",
    "networks_reused",
    "networks_routing",
    "networks_shared",
    "networks_square",
]
