"""The shares of all processes add up to the whole, for every way to place a tensor; simulated in one process."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.monitor.processes import networks
from torch import Tensor
from torch.distributed.tensor import Replicate, Shard

import neuralmechanics as nm
from neuralmechanics.monitor.following.measuring.drives import DriveMeter
from neuralmechanics.monitor.processes.holding import holding
from neuralmechanics.monitor.processes.local_charges import LocalCharges, local_charges, size_of_sums
from neuralmechanics.monitor.processes.local_views import local_view
from neuralmechanics.slices import SliceView, slice_sums


@dataclass
class Mesh:
    """As much of a DeviceMesh as is asked for."""

    mesh: Tensor
    coordinate: tuple[int, ...]

    def size(self, dim: int | None = None) -> int:
        return self.mesh.numel() if dim is None else self.mesh.shape[dim]

    def get_coordinate(self) -> tuple[int, ...]:
        return self.coordinate


@dataclass
class Placed:
    """As much of a DTensor as is asked for."""

    whole: Tensor
    device_mesh: Mesh
    placements: Sequence[Any]
    local: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.local = self.whole
        for k, (placement, at) in enumerate(zip(self.placements, self.device_mesh.coordinate, strict=True)):
            if placement.is_shard():
                pieces = self.local.chunk(self.device_mesh.size(k), placement.dim)
                empty = self.local.narrow(placement.dim, 0, 0)
                self.local = pieces[at] if at < len(pieces) else empty

    @property
    def shape(self) -> torch.Size:
        return self.whole.shape

    def to_local(self) -> Tensor:
        return self.local


Placements = Mapping[str, Sequence[Any] | None]


def processes_of(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    return list(itertools.product(*map(range, shape)))


def local(
    found: nm.Symmetries, params: Mapping[str, Tensor], placed: Placements, shape: tuple[int, ...], at: tuple[int, ...]
) -> tuple[LocalCharges, dict[str, Tensor]]:
    mesh = torch.arange(int(np.prod(shape))).reshape(shape)
    tensors: dict[str, Any] = {
        n: params[n] if (where := placed[n]) is None else Placed(params[n], Mesh(mesh, at), where)
        for n in found.parameters
    }
    holdings = {n: holding(n, p, mesh.numel()) for n, p in tensors.items()}
    here = {n: p.to_local() if isinstance(p, Placed) else p for n, p in tensors.items()}
    return local_charges(found, tensors, holdings), here


@cache
def symmetries(name: str) -> tuple[nm.Symmetries, dict[str, Tensor]]:
    params = {n: p.detach() for n, p in networks.CASES[name].build().named_parameters()}
    return networks.symmetries(name), params


def random_placements(found: nm.Symmetries, params: Mapping[str, Tensor], mesh: int, seed: int) -> dict[str, Any]:
    chosen = np.random.default_rng(seed)

    def one(parameter: Tensor) -> Any:
        return Replicate() if chosen.random() < 0.3 else Shard(int(chosen.integers(parameter.dim())))

    return {n: None if chosen.random() < 0.1 else [one(params[n]) for _ in range(mesh)] for n in found.parameters}


@settings(deadline=None, max_examples=25)
@given(
    name=st.sampled_from(["vgg", "llama", "linear"]),
    shape=st.sampled_from([(2,), (3,), (7,), (2, 2), (2, 3), (3, 1)]),
    seed=st.integers(0, 10**6),
)
def test_shares_add_up(name: str, shape: tuple[int, ...], seed: int) -> None:
    found, params = symmetries(name)
    placed = random_placements(found, params, len(shape), seed)
    other = {n: torch.sin(3 * p) for n, p in params.items()}
    pairs = torch.zeros(found.charges, dtype=torch.float64)
    sums = torch.zeros(found.charges, dtype=torch.float64)
    cuts = []
    for at in processes_of(shape):
        one, here = local(found, params, placed, shape, at)
        _, there = local(found, other, placed, shape, at)
        for parameter in one.parameters:
            one.accumulate_pair_(pairs, parameter, here[parameter], there[parameter])
        sums += one.size_sums(here)
        cuts.append(one.cut)
        assert one.labels == found.labels
    assert all((cut == cuts[0]).all() for cut in cuts)
    cut = torch.from_numpy(cuts[0])
    whole, size = found.pair(params, other), found.charge_scale(params)
    assert (pairs.isnan() == cut).all()
    assert torch.allclose(pairs[~cut], whole[~cut], rtol=1e-12, atol=1e-14)
    assert torch.allclose(size_of_sums(found, sums)[~cut], size[~cut], rtol=1e-12)
    assert not cut.any() or name != "vgg"


class Modulated(torch.nn.Module):
    """Gains 1 + w of a norm, and 1 + (a part of a layer's output)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.condition, self.last = (torch.nn.Linear(n, m) for n, m in ((4, 6), (4, 12), (6, 3)))
        self.weight = torch.nn.Parameter(torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = self.condition(x).chunk(2, dim=-1)
        return self.last(torch.relu(torch.tanh(self.first(x)) * (1 + self.weight) * (1 + scale) + shift))


@settings(deadline=None, max_examples=15)
@given(shape=st.sampled_from([(2,), (3,), (2, 2), (3, 1)]), seed=st.integers(0, 10**6))
def test_shares_of_charges_about_another_point_add_up(shape: tuple[int, ...], seed: int) -> None:
    """Charges, residuals and sizes of θ + c, each process with the constants of what it holds."""
    model = Modulated().double()
    found = nm.find_symmetries(model, torch.zeros(5, 4, dtype=torch.float64))
    draw = torch.Generator().manual_seed(seed)
    params, slopes = (
        {n: torch.randn(p.shape, generator=draw, dtype=torch.float64) for n, p in model.named_parameters()}
        for _ in range(2)
    )
    assert int(found.displaced.sum()) == 12
    placed = random_placements(found, params, len(shape), seed)
    charges, residuals, sizes, tangents = torch.zeros(4, found.charges, dtype=torch.float64)
    for at in processes_of(shape):
        one, here = local(found, params, placed, shape, at)
        _, there = local(found, slopes, placed, shape, at)
        meter = DriveMeter(one, here, torch.device("cpu"), found.quadratic)
        charges += meter.charge({n: here[n] for n in one.parameters})
        residuals += meter.pair({n: there[n] for n in one.parameters}, here)
        sizes += one.size_sums(here)
        tangents += one.size_sums(there, of_tangents=True)
    assert torch.allclose(charges, found.charge(params), rtol=1e-12, atol=1e-13)
    assert torch.allclose(residuals, found.residual(slopes, params), rtol=1e-12, atol=1e-13)
    assert torch.allclose(size_of_sums(found, sizes), found.charge_scale(params), rtol=1e-12)
    assert torch.allclose(size_of_sums(found, tangents), found.tangent_scale(slopes), rtol=1e-12)


def test_a_block_is_cut_where_two_processes_hold_its_channels_and_not_otherwise() -> None:
    found, params = symmetries("linear")
    names = found.parameters
    assert found.count()["linear"] == 21
    for dims, divided in (((0, 1), True), ((0, 0), True), ((1, 0), False), ((1, 1), True)):
        placed = {n: [Shard(dims[0] if n.startswith("first") else dims[1] if "weight" in n else 0)] for n in names}
        one, _ = local(found, params, placed, (2,), (0,))
        linear = np.array([kind == "linear" for kind in found.kinds])
        assert (one.cut == (linear & divided)).all(), dims


def test_heads_that_stay_together_are_not_cut() -> None:
    found, params = symmetries("llama")
    for pieces, divided in ((2, False), (4, True)):  # two heads of four channels
        placed = {n: [Shard(1 if n.endswith(("o_proj.weight", "down_proj.weight")) else 0)] for n in found.parameters}
        one, _ = local(found, params, placed, (pieces,), (0,))
        assert bool(one.cut.any()) is divided


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    cuts=st.integers(1, 5),
    seed=st.integers(0, 10**6),
)
def test_slices_of_any_view_are_sums_of_local_slices(sizes: list[int], cuts: int, seed: int) -> None:
    """The tensor has some neighbouring dimensions of the view joined, or is the view with some of its own split."""
    chosen = np.random.default_rng(seed)

    def joined(shape: list[int]) -> tuple[int, ...]:
        edges = [0, *(k for k in range(1, len(shape)) if chosen.random() < 0.5), len(shape)]
        return tuple(int(np.prod(shape[a:b])) for a, b in itertools.pairwise(edges))

    shape, seen = joined(sizes), joined(sizes)
    kept = tuple(k for k in range(len(seen)) if chosen.random() < 0.5)
    view, tensor = SliceView("w", seen, kept), torch.randn(shape, dtype=torch.float64)
    along = int(chosen.integers(len(shape)))
    total = np.zeros(view.size)
    for indices in np.array_split(chosen.permutation(shape[along]), cuts):
        held = tuple(np.sort(indices) if d == along else np.arange(n) for d, n in enumerate(shape))
        if not len(indices):
            continue
        part = local_view(view, shape, held)
        np.add.at(total, part.whole, slice_sums(tensor[np.ix_(*held)], [part.view])[0].numpy())
    assert np.allclose(total, slice_sums(tensor, [view])[0].numpy(), rtol=1e-12, atol=1e-12)


def test_pieces_of_pieces_are_in_torchs_order() -> None:
    """FSDP over tensor parallel: the table in torch's own description of strided shards."""

    class Strided:
        dim, split_factor = 0, 2

        def is_replicate(self) -> bool:
            return False

    mesh, rows = torch.arange(4).reshape(2, 2), torch.arange(8.0)
    for at, right in {(0, 0): [0, 1], (0, 1): [4, 5], (1, 0): [2, 3], (1, 1): [6, 7]}.items():

        class Part:
            shape, device_mesh, placements = rows.shape, Mesh(mesh, at), (Strided(), Shard(0))

            def to_local(self) -> Tensor:
                return rows[:2]

        part: Any = Part()
        assert holding("w", part, 4).indices[0].tolist() == right


def test_what_is_neither_sharded_nor_replicated_is_refused() -> None:
    from torch.distributed.tensor import Partial

    class Part:
        shape, device_mesh, placements = torch.Size([4]), Mesh(torch.arange(2), (0,)), (Partial(),)

    part: Any = Part()
    with pytest.raises(ValueError, match=r"'w' is placed as .* neither sharded nor replicated"):
        holding("w", part, 2)
