"""The layers of a network in blocks: neighbours of one width, as the paper colours them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neuralmechanics.experiments.config import SUM
from neuralmechanics.report.source import families, of_family

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Block:
    """Neighbouring layers with equally many charges: their families, and the modules that these are named after."""

    families: tuple[str, ...]
    layers: tuple[str, ...]

    @property
    def name(self) -> str:
        """The first and the last layer."""
        first, last = (layer.rpartition(".")[2] for layer in (self.layers[0], self.layers[-1]))
        return first if first == last else f"{first} to {last}"


def blocks(data: xr.Dataset, kind: str) -> list[Block]:
    """The families of a kind in model order, neighbours with equally many charges together."""
    found: list[tuple[int, list[str]]] = []
    for family in families(data, kind):
        if family.endswith(SUM):
            continue
        width = of_family(data, family).sizes["charge"]
        if found and found[-1][0] == width:
            found[-1][1].append(family)
        else:
            found.append((width, [family]))
    return [Block(tuple(names), tuple(_layer(name) for name in names)) for _, names in found]


def _layer(family: str) -> str:
    """The module that a family is named after: the first one in its name.

    >>> _layer("rescale: features.norm1 → features.conv2"), _layer("translation: head.weight")
    ('features.norm1', 'head')
    """
    return family.rpartition(": ")[2].split(" → ")[0].split(", ")[0].removesuffix(".weight").removesuffix(".bias")


def block_of_parameters(names: Sequence[str], found: Sequence[Block]) -> dict[str, int]:
    """The block of each parameter, the number of blocks for those of no block (a classifier behind convolutions).

    A norm has no filters: it belongs to the layer before it, within the same part of the network.
    """
    of_layer = {layer: number for number, block in enumerate(found) for layer in block.layers}
    result: dict[str, int] = {}
    current, part = len(found), ""
    for name in names:
        layer = name.rpartition(".")[0]
        if layer in of_layer:
            current, part = of_layer[layer], layer.rpartition(".")[0]
        elif layer.rpartition(".")[0] != part:
            current, part = len(found), layer.rpartition(".")[0]
        result[name] = current
    return result
