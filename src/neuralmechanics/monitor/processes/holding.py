"""Which elements of a parameter a process holds, and how many processes hold the same."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

Indices = tuple[np.ndarray[Any, np.dtype[np.int64]], ...]


@dataclass(frozen=True, eq=False)
class Holding:
    """The elements at all combinations of `indices`, one array a dimension; `share` is 1 over its replicas."""

    indices: Indices
    share: float

    @property
    def elements(self) -> int:
        """How many elements are held."""
        return math.prod(len(along) for along in self.indices)


def sharded(parameter: Tensor) -> bool:
    """Whether a parameter is a DTensor over more than one process."""
    mesh: Any = getattr(parameter, "device_mesh", None)
    return mesh is not None and mesh.size() > 1


def ranks_of(parameter: Tensor) -> set[int]:
    """The processes that hold a share of a parameter; none for one that is not distributed."""
    mesh: Any = getattr(parameter, "device_mesh", None)
    return set() if mesh is None else set(mesh.mesh.flatten().tolist())


def holding(name: str, parameter: Tensor, processes: int) -> Holding:
    """What this process holds of a parameter of a model that lies in so many processes.

    A parameter that is no DTensor, or lies in fewer of them, is held in full by each of the others.
    """
    mesh: Any = getattr(parameter, "device_mesh", None)
    if mesh is None:
        return Holding(tuple(np.arange(n) for n in parameter.shape), 1 / processes)
    placements: Any = parameter.placements  # type: ignore[attr-defined]
    found = _held(name, tuple(parameter.shape), tuple(mesh.mesh.shape), placements, tuple(mesh.get_coordinate()))
    local = tuple(parameter.to_local().shape)  # type: ignore[attr-defined]
    if local != tuple(len(along) for along in found):
        raise ValueError(
            f"parameter {name!r} is placed as {placements} and its part here has the shape {list(local)}, which is not "
            f"the expected {[len(along) for along in found]}; monitor this training in one process"
        )
    return Holding(found, _share(mesh, placements, processes))


def everybodys(name: str, parameter: Tensor) -> Iterator[Indices]:
    """The indices that each of the processes holds of a parameter."""
    mesh: Any = getattr(parameter, "device_mesh", None)
    if mesh is None:
        yield tuple(np.arange(n) for n in parameter.shape)
        return
    shape = tuple(mesh.mesh.shape)
    placements: Any = parameter.placements  # type: ignore[attr-defined]
    for coordinate in itertools.product(*map(range, shape)):
        yield _held(name, tuple(parameter.shape), shape, placements, coordinate)


def _share(mesh: Any, placements: Sequence[Any], processes: int) -> float:
    replicas = math.prod(mesh.size(k) for k, placement in enumerate(placements) if placement.is_replicate())
    return 1 / float(replicas * (processes // mesh.size()))


def _held(
    name: str, shape: tuple[int, ...], mesh: tuple[int, ...], placements: Sequence[Any], coordinate: tuple[int, ...]
) -> Indices:
    indices = [np.arange(n) for n in shape]
    for placement, pieces, piece in zip(placements, mesh, coordinate, strict=True):
        if placement.is_replicate():
            continue
        if not hasattr(placement, "dim"):
            raise ValueError(
                f"parameter {name!r} is placed as {tuple(placements)}, which is neither sharded nor replicated; "
                "monitor this training in one process"
            )
        along = placement.dim % len(shape)
        # FSDP over tensor parallel cuts each piece of the latter once more, although it comes first.
        outer = getattr(placement, "split_factor", 1)
        parts = [_chunk(_chunk(indices[along], outer, k), pieces, piece) for k in range(outer)]
        indices[along] = np.concatenate(parts)
    return tuple(indices)


def _chunk(indices: np.ndarray[Any, Any], pieces: int, piece: int) -> np.ndarray[Any, Any]:
    """As `torch.chunk`: pieces of equal size rounded up, the last ones shorter or empty."""
    size = -(-len(indices) // pieces)
    return indices[piece * size : (piece + 1) * size]
