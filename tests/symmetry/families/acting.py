"""Every action in several shapes, each with a function that its group leaves unchanged by construction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuralmechanics.slices import SliceTerm, SliceView
from neuralmechanics.symmetry.families.actions import (
    Action,
    AffineDiagonal,
    AffineShift,
    AffineTerm,
    Bilinear,
    ComplexPairs,
    Diagonal,
    Entries,
    Gain,
    GramTerm,
    LinearBlocks,
    MapFactor,
    Origin,
    Own,
    Rotation,
    RotationTerm,
    Shear,
    ShearTerm,
    Shift,
    Solved,
)
from neuralmechanics.symmetry.families.actions.terms.placement import Digit, Placement
from neuralmechanics.symmetry.families.actions.terms.product_terms import ProductTerm

__all__ = ["INSTANCES", "Instance"]

Params = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Instance:
    """An action, shapes of all parameters that it moves or reads, and an invariant vector of its group."""

    action: Action
    shapes: Mapping[str, tuple[int, ...]]
    invariant: Callable[[Params], Tensor]

    def params(self, seed: int = 0) -> dict[str, Tensor]:
        """Random parameters away from zero, in float64."""
        draw = torch.Generator().manual_seed(seed)
        return {name: self._away(torch.randn(shape, generator=draw).double()) for name, shape in self.shapes.items()}

    @staticmethod
    def _away(x: Tensor) -> Tensor:
        return x + 0.5 * torch.where(x < 0, -1.0, 1.0)

    def function(self, params: Params) -> Tensor:
        """A smooth nonlinear number made of the invariants."""
        u = self.invariant(params).reshape(-1)
        phases = torch.arange(1, len(u) + 1, dtype=torch.float64)
        return torch.sin(0.7 * u + phases).sum()


def slices(
    name: str, shape: tuple[int, ...], kept: tuple[int, ...], entries: Sequence[tuple[int, int, float]]
) -> SliceTerm:
    """Coefficients (charge, slice, value) of one view."""
    charges, places, values = zip(*entries, strict=True)
    return SliceTerm(SliceView(name, shape, kept), np.array(charges), np.array(places), np.array(values, dtype=float))


def each(count: int, value: float, start: int = 0) -> list[tuple[int, int, float]]:
    """Slice k belongs to charge start + k."""
    return [(start + k, k, value) for k in range(count)]


def channels(
    name: str, shape: tuple[int, ...], kept: tuple[int, ...], blocks: Sequence[Sequence[int]], sign: int
) -> GramTerm:
    """Block k mixes the slices listed k-th."""
    count = len(blocks)
    return GramTerm(SliceView(name, shape, kept), np.array(blocks), np.arange(count), np.full(count, sign))


def rescale() -> Instance:
    """Units between two layers, a bias with them."""
    terms = (
        slices("w", (3, 4), (0,), each(3, 1.0)),
        slices("b", (3,), (0,), each(3, 1.0)),
        slices("v", (2, 3), (1,), each(3, -1.0)),
    )
    shapes = {"w": (3, 4), "b": (3,), "v": (2, 3)}
    return Instance(
        Diagonal(terms),
        shapes,
        lambda p: torch.cat([p["v"] @ p["w"], p["v"] @ torch.diag(p["b"]) @ p["w"] ** 0], dim=1),
    )


def weighted() -> Instance:
    """Exponents that differ: a cubic unit, and a convolution seen through a flatten."""
    terms = (
        slices("w", (2, 5), (0,), each(2, 1.0)),
        slices("v", (4, 2, 3), (1,), each(2, -3.0)),
    )
    return Instance(
        Diagonal(terms),
        {"w": (2, 5), "v": (4, 6)},
        lambda p: torch.einsum("ocs,ci->osi", p["v"].reshape(4, 2, 3), p["w"] ** 3),
    )


def scale() -> Instance:
    """Filters before a norm, and a whole tensor."""
    terms = (
        slices("filters", (3, 2, 2, 2), (0,), each(3, 1.0)),
        slices("whole", (4, 2), (), [(3, 0, 1.0)]),
    )
    return Instance(
        Diagonal(terms),
        {"filters": (3, 2, 2, 2), "whole": (4, 2)},
        lambda p: torch.cat(
            [
                (p["filters"] / p["filters"].flatten(1).norm(dim=1).reshape(3, 1, 1, 1)).reshape(-1),
                (p["whole"] / p["whole"].norm()).reshape(-1),
            ]
        ),
    )


def shared_element() -> Instance:
    """Two charges on the same tensor: rows up, columns down."""
    terms = (
        slices("u", (3, 4), (0,), each(3, 1.0)),
        slices("w", (2, 3), (1,), each(3, -1.0)),
        slices("w", (2, 3), (0,), each(2, 1.0, start=3)),
        slices("v", (5, 2), (1,), each(2, -1.0, start=3)),
    )
    return Instance(
        Diagonal(terms),
        {"u": (3, 4), "w": (2, 3), "v": (5, 2)},
        lambda p: torch.einsum("kj,ji,il->kjil", p["v"], p["w"], p["u"]),
    )


def gain_about_one() -> Instance:
    """Gains 1 + w, and shifts behind them, against the columns of two layers that read them."""
    terms = (
        slices("w", (3,), (0,), each(3, 1.0)),
        slices("b", (3,), (0,), each(3, 1.0)),
        slices("v", (2, 3), (1,), each(3, -1.0)),
        slices("u", (3, 4), (0,), each(3, -1.0)),
    )
    return Instance(
        AffineDiagonal(terms, (Origin("w", np.ones(1)),)),
        {"w": (3,), "b": (3,), "v": (2, 3), "u": (3, 4)},
        lambda p: torch.cat(
            [m.reshape(-1) for r in (p["v"], p["u"].mT) for m in (r * (1 + p["w"]), r * p["b"])],
        ),
    )


def gain_about_a_vector() -> Instance:
    """A table of which the entries are counted from different points, with rows up and one of them squared."""
    base = torch.tensor([[1.0, -2.0, 0.0, 0.5]]).double()
    terms = (
        slices("w", (2, 4), (0,), each(2, 1.0)),
        slices("v", (2, 3), (0,), [(0, 0, -2.0), (1, 1, -1.0)]),
        slices("c", (2,), (0,), each(2, -1.0)),
    )
    origins = (Origin("w", base.numpy()), Origin("c", np.array([0.0, 3.0])))

    def invariant(p: Params) -> Tensor:
        u, c = p["w"] + base, p["c"] + torch.tensor([0.0, 3.0])
        first = torch.outer(u[0], u[0])[:, :, None] * p["v"][0]
        return torch.cat([first.reshape(-1), torch.outer(u[1], p["v"][1]).reshape(-1), (c[:, None] * u).reshape(-1)])

    return Instance(AffineDiagonal(terms, origins), {"w": (2, 4), "v": (2, 3), "c": (2,)}, invariant)


def columns() -> Instance:
    """The columns of a softmax layer, and its bias."""
    terms = (slices("w", (4, 3), (1,), each(3, 1.0)), slices("b", (4,), (), [(3, 0, 1.0)]))
    return Instance(
        Shift(terms),
        {"w": (4, 3), "b": (4,)},
        lambda p: torch.cat([(p["w"] - p["w"].mean(0)).reshape(-1), p["b"] - p["b"].mean()]),
    )


def cancelling() -> Instance:
    """Two biases of which only the sum matters, one of them twice."""
    terms = (slices("a", (3,), (0,), each(3, 2.0)), slices("b", (3,), (0,), each(3, -1.0)))
    return Instance(Shift(terms), {"a": (3,), "b": (3,)}, lambda p: p["a"] + 2 * p["b"])


def affine(output_first: bool) -> Instance:
    """A bias that the bias behind the next layer takes back; the weight with outputs first or last."""
    shape = (2, 3) if output_first else (3, 2)
    three = np.arange(3)
    answer = AffineTerm("c", SliceView("m", shape, (0, 1)), output_first, three, three, np.full(3, 1.0))
    action = AffineShift((slices("b", (3,), (0,), each(3, 1.0)),), (answer,))
    return Instance(
        action,
        {"b": (3,), "m": shape, "c": (2,)},
        lambda p: torch.cat([(p["m"] if output_first else p["m"].mT) @ p["b"] + p["c"], p["m"].reshape(-1)]),
    )


def affine_kernel() -> Instance:
    """A convolution's bias behind another convolution, whose kernel is summed; twice the shift enters."""
    two = np.arange(2)
    answer = AffineTerm("c", SliceView("m", (3, 2, 5), (0, 1)), True, two, two, np.full(2, 2.0))
    action = AffineShift((slices("b", (2,), (0,), each(2, 1.0)),), (answer,))
    return Instance(
        action,
        {"b": (2,), "m": (3, 2, 5), "c": (3,)},
        lambda p: torch.cat([2 * p["m"].sum(-1) @ p["b"] + p["c"], p["m"].reshape(-1)]),
    )


def affine_through_maps_in_a_row() -> Instance:
    """A shift passes a map, gains and a kernel in groups before a bias takes it back."""
    three = np.arange(3)
    then = (MapFactor(SliceView("g", (4,), (0,)), True), MapFactor(SliceView("k", (2, 2, 3), (0, 1)), True, 2))
    answer = AffineTerm("c", SliceView("m", (3, 4), (0, 1)), False, three, three, np.full(3, 1.0), then)
    action = AffineShift((slices("b", (3,), (0,), each(3, 1.0)),), (answer,))

    def invariant(p: Params) -> Tensor:
        made = p["g"] * (p["b"] @ p["m"])
        weight = p["k"].sum(-1)
        both = torch.stack([weight[0] @ made[:2], weight[1] @ made[2:]])
        return torch.cat([both + p["c"], p["m"].reshape(-1), p["g"], p["k"].reshape(-1)])

    return Instance(action, {"b": (3,), "m": (3, 4), "g": (4,), "k": (2, 2, 3), "c": (2,)}, invariant)


def affine_in_rows() -> Instance:
    """Two of the three entries of a packed bias take back what their rows of the packed weight make of a shift."""
    two = np.arange(2)
    view = SliceView("m", (3, 2), (0, 1))
    answer = AffineTerm("c", view, True, two, two, np.ones(2), rows=(1, 2))
    return Instance(
        AffineShift((slices("b", (2,), (0,), each(2, 1.0)),), (answer,)),
        {"b": (2,), "m": (3, 2), "c": (3,)},
        lambda p: torch.cat([p["m"][1:] @ p["b"] + p["c"][1:], p["c"][:1], p["m"].reshape(-1)]),
    )


def affine_beside_a_modulation() -> Instance:
    """The rows of one map take on what others are multiplied by, and a table that of all its rows."""
    three = np.arange(3)
    own = SliceView("m", (6, 2), (0,))
    bias = AffineTerm("c", SliceView("w", (2, 3), (0, 1)), True, three, three, np.full(3, 1.0))
    packed = ProductTerm(own, own, three + 3, three, three, np.full(3, 1.0))
    table = ProductTerm(SliceView("t", (4, 3), (1,)), SliceView("g", (3,), (0,)), three, three, three, np.full(3, -0.5))
    several = ProductTerm(
        SliceView("a", (4,), ()), SliceView("p", (3, 4), (0,)), np.zeros(3, np.int64), three, three, np.full(3, 1.0)
    )

    def invariant(p: Params) -> Tensor:
        rows = p["b"][:, None] * p["m"][:3] + p["m"][3:]
        made = (rows, p["t"] - 0.5 * p["b"] * p["g"], p["a"] + p["b"] @ p["p"], p["m"][:3], p["g"], p["p"],
                p["w"] @ p["b"] + p["c"], p["w"])  # fmt: skip
        return torch.cat([one.reshape(-1) for one in made])

    return Instance(
        AffineShift((slices("b", (3,), (0,), each(3, 1.0)),), (bias,), (packed, table, several)),
        {"b": (3,), "m": (6, 2), "t": (4, 3), "g": (3,), "a": (4,), "p": (3, 4), "w": (2, 3), "c": (2,)},
        invariant,
    )


def affine_in_groups() -> Instance:
    """A kernel whose groups of outputs read inputs of their own, then gains."""
    four = np.arange(4)
    then = (MapFactor(SliceView("g", (1, 2), (1,)), True),)
    answer = AffineTerm("c", SliceView("k", (2, 2, 3), (0, 1)), True, four, four, np.full(4, -0.5), then, 2)
    action = AffineShift((slices("b", (4,), (0,), each(4, 1.0)),), (answer,))

    def invariant(p: Params) -> Tensor:
        weight = p["k"].sum(-1)
        made = torch.stack([weight[0] @ p["b"][:2], weight[1] @ p["b"][2:]])
        return torch.cat([p["c"] - 0.5 * p["g"][0] * made, p["k"].reshape(-1), p["g"].reshape(-1)])

    return Instance(action, {"b": (4,), "k": (2, 2, 3), "g": (1, 2), "c": (2,)}, invariant)


def pair_of_layers() -> Instance:
    """Two linear layers with nothing between."""
    terms = (
        channels("w", (3, 4), (0,), [[0, 1, 2]], 1),
        channels("v", (2, 3), (1,), [[0, 1, 2]], -1),
    )
    return Instance(LinearBlocks(terms, 1), {"w": (3, 4), "v": (2, 3)}, lambda p: p["v"] @ p["w"])


def heads() -> Instance:
    """Two heads of values and outputs, with the values' bias."""
    blocks = [[0, 1], [2, 3]]
    terms = (
        channels("w", (4, 3), (0,), blocks, 1),
        channels("b", (4,), (0,), blocks, 1),
        channels("v", (3, 4), (1,), blocks, -1),
    )

    def invariant(p: Params) -> Tensor:
        w, b, v = p["w"].reshape(2, 2, 3), p["b"].reshape(2, 2), p["v"].reshape(3, 2, 2)
        return torch.cat([torch.einsum("ohd,hdi->hoi", v, w).reshape(-1), torch.einsum("ohd,hd->ho", v, b).reshape(-1)])

    return Instance(LinearBlocks(terms, 2), {"w": (4, 3), "b": (4,), "v": (3, 4)}, invariant)


def three_dimensions() -> Instance:
    """Channels in the middle of a tensor, in another order on the other side."""
    terms = (
        channels("w", (2, 3, 2), (1,), [[2, 0]], 1),
        channels("v", (3, 4), (0,), [[0, 1]], -1),
    )
    return Instance(
        LinearBlocks(terms, 1),
        {"w": (2, 3, 2), "v": (3, 4)},
        lambda p: torch.cat(
            [
                torch.einsum("acb,cd->abd", p["w"][:, [2, 0]], p["v"][:2]).reshape(-1),
                p["w"][:, 1].reshape(-1),
                p["v"][2],
            ]
        ),
    )


def rotary(count: int, rest: int) -> Instance:
    """Queries and keys whose channels turn in pairs (k, k + count)."""
    blocks = [[k, count + k] for k in range(count)]
    shape = (2 * count, rest)
    terms = (channels("q", shape, (0,), blocks, 1), channels("k", shape, (0,), blocks, -1))

    def invariant(p: Params) -> Tensor:
        q, k = (torch.complex(p[name][:count], p[name][count:]) for name in "qk")
        return torch.view_as_real(q[:, :, None] * k.conj()[:, None, :])

    return Instance(ComplexPairs(terms, count), {"q": shape, "k": shape}, invariant)


def stream(width: int) -> Instance:
    """What a stream is written and read by: lengths and products are invariant."""
    terms = (RotationTerm("w", 0), RotationTerm("v", 1, dual=True))
    return Instance(
        Rotation(terms, width),
        {"w": (width, 3), "v": (2, width)},
        lambda p: torch.cat([(p["v"] @ p["w"]).reshape(-1), (p["w"].mT @ p["w"]).reshape(-1)]),
    )


def slice_of_a_stream() -> Instance:
    """Channels 2 to 4 of five, which a reader of their own reads."""
    part = Placement(0, 2, (Digit(3, 1),))
    terms = (RotationTerm("w", 0, place=part), RotationTerm("v", 1, dual=True))
    return Instance(
        Rotation(terms, 3),
        {"w": (5, 3), "v": (2, 3)},
        lambda p: torch.cat([t.reshape(-1) for t in (p["v"] @ p["w"][2:], p["w"][2:].mT @ p["w"][2:], p["w"][:2])]),
    )


def heads_by_themselves() -> Instance:
    """Queries of two heads in one dimension, keys with the heads in a dimension of their own."""
    terms = (
        RotationTerm("q", 1, place=Placement(1, 0, (Digit(2, 3, 0), Digit(3, 1)))),
        RotationTerm(
            "k", 2, dual=True, place=Placement(2, 0, (Digit(3, 1),)), beside=(Placement(0, 0, (Digit(2, 1, 0),)),)
        ),
    )

    def invariant(p: Params) -> Tensor:
        q, k = p["q"].reshape(4, 2, 3).movedim(1, 0), p["k"]
        return torch.cat([t.reshape(-1) for t in (q @ k.mT, q.square().sum(-1), k.square().sum(-1))])

    return Instance(Rotation(terms, 3, copies=(2,)), {"q": (4, 6), "k": (2, 5, 3)}, invariant)


def centred() -> Instance:
    """Rotations about the all-ones vector."""
    terms = (RotationTerm("w", 0), RotationTerm("v", 1, dual=True))
    return Instance(
        Rotation(terms, 4, "centred"),
        {"w": (4, 3), "v": (2, 4)},
        lambda p: torch.cat([(p["v"] @ p["w"]).reshape(-1), p["w"].sum(0), p["w"].square().sum(0)]),
    )


def turned_pairs() -> Instance:
    """Queries and keys of which norms see the length, and a rotary embedding pairs of channels."""
    terms = (RotationTerm("q", 0), RotationTerm("k", 0, dual=True))

    def invariant(p: Params) -> Tensor:
        q, k = (torch.complex(p[name][:2], p[name][2:]) for name in "qk")
        lengths = torch.cat([p[name].square().sum(0) for name in "qk"])
        return torch.cat([torch.view_as_real(q[:, :, None] * k.conj()[:, None, :]).reshape(-1), lengths])

    return Instance(Rotation(terms, 4, "paired", ((0, 2), (1, 3))), {"q": (4, 3), "k": (4, 2)}, invariant)


def turned_pairs_of_heads() -> Instance:
    """The same of two heads, one behind the other in the queries, with keys that have a dimension for them."""
    terms = (
        RotationTerm("q", 1, place=Placement(1, 0, (Digit(2, 4, 0), Digit(4, 1)))),
        RotationTerm(
            "k", 2, dual=True, place=Placement(2, 0, (Digit(4, 1),)), beside=(Placement(0, 0, (Digit(2, 1, 0),)),)
        ),
    )

    def invariant(p: Params) -> Tensor:
        q, k = p["q"].reshape(3, 2, 4).movedim(1, 0), p["k"]
        a, b = (torch.complex(x[..., :2], x[..., 2:]) for x in (q, k))
        lengths = torch.cat([x.square().sum(-1).reshape(-1) for x in (q, k)])
        return torch.cat([torch.view_as_real(a[:, :, None] * b.conj()[:, None]).reshape(-1), lengths])

    return Instance(Rotation(terms, 4, "paired", ((0, 2), (1, 3)), (2,)), {"q": (3, 8), "k": (2, 2, 4)}, invariant)


def gained() -> Instance:
    """A rotation that passes a gain 1 + γ on the way to its reader."""
    gain = ((Gain("gamma", 1.0, 1.0), -1.0),)
    terms = (RotationTerm("w", 0), RotationTerm("v", 1, dual=True, dressing=gain))
    return Instance(
        Rotation(terms, 3),
        {"w": (3, 2), "v": (2, 3), "gamma": (3,)},
        lambda p: torch.cat([((p["v"] * (1 + p["gamma"])) @ p["w"]).reshape(-1), p["w"].square().sum(0), p["gamma"]]),
    )


def gained_heads() -> Instance:
    """Rotations of two heads, one behind the other, that pass a gain with entries of each."""
    gain = ((Gain("gamma", stop=3, copies=((2, 3, 0),)), -1.0),)
    place = (Digit(2, 3, 0), Digit(3, 1))
    terms = (
        RotationTerm("w", 0, place=Placement(0, 0, place)),
        RotationTerm("v", 1, dual=True, dressing=gain, place=Placement(1, 0, place)),
    )

    def invariant(p: Params) -> Tensor:
        read = (p["v"] * p["gamma"]).reshape(2, 2, 3).movedim(1, 0) @ p["w"].reshape(2, 3, 2)
        lengths = p["w"].reshape(2, 3, 2).square().sum(1)
        return torch.cat([t.reshape(-1) for t in (read, lengths, p["gamma"])])

    return Instance(Rotation(terms, 3, copies=(2,)), {"w": (6, 2), "v": (2, 6), "gamma": (6,)}, invariant)


def mixed_through_gain() -> Instance:
    """Any mixing of channels that a gain separates from their reader."""
    gain = ((Gain("gamma"), -1.0),)
    terms = (RotationTerm("w", 0), RotationTerm("v", 1, dual=True, dressing=gain))
    return Instance(
        Rotation(terms, 3, "general"),
        {"w": (3, 2), "v": (2, 3), "gamma": (3,)},
        lambda p: torch.cat([((p["v"] * p["gamma"]) @ p["w"]).reshape(-1), p["gamma"]]),
    )


def blind() -> Instance:
    """What is added along the all-ones vector of a space that is read by a centring norm, and by another reader."""
    terms = (RotationTerm("w", 0), RotationTerm("v", 1, dual=True))
    return Instance(
        Rotation(terms, 3, "blind"),
        {"w": (3, 2), "v": (2, 3)},
        lambda p: torch.cat([(p["v"] @ p["w"]).reshape(-1), (p["w"] - p["w"].mean(0)).reshape(-1)]),
    )


def blind_beside_a_sum() -> Instance:
    """A norm's bias moves against its reader behind a gain, and a bias takes it back in a sum."""
    gain = Gain("gamma")
    terms = (RotationTerm("v", 1, False, ((gain, -1.0),)), RotationTerm("beta", 0, True, ((gain, 1.0),)))
    points = torch.randn(5, 3, generator=torch.Generator().manual_seed(7)).double()
    points = points - points.mean(1, keepdim=True)

    def invariant(p: Params) -> Tensor:
        read = (points * p["gamma"] + p["beta"]) @ p["v"].mT
        return torch.cat([read.reshape(-1), p["beta"] + p["b"][0], p["gamma"]])

    shapes = {"v": (2, 3), "beta": (3,), "b": (1, 3), "gamma": (3,)}
    return Instance(Rotation(terms, 3, "blind", taken=(("beta", "b"),)), shapes, invariant)


def shear(with_bias: bool) -> Instance:
    """The reader of a centring norm with a gain, and with a shift that its bias takes back."""
    dressing = ((Gain("gamma"), 1.0),)
    shifts = (("beta", ()),) if with_bias else ()
    taken = (slices("b", (2,), (0,), each(2, -1.0)),) if with_bias else ()
    action = Shear(ShearTerm(slices("w", (2, 1), (0,), each(2, 1.0)), 1, dressing, shifts), AffineShift(taken, ()))
    points = torch.randn(5, 3, generator=torch.Generator().manual_seed(7)).double()
    points = points - points.mean(1, keepdim=True)

    def invariant(p: Params) -> Tensor:
        read = points * p["gamma"] + (p["beta"] if with_bias else 0)
        return torch.cat([(read @ p["w"].mT + (p["b"] if with_bias else 0)).reshape(-1), p["gamma"]])

    shapes = {"w": (2, 3), "gamma": (3,)} | ({"beta": (3,), "b": (2,)} if with_bias else {})
    return Instance(action, shapes, invariant)


def shear_of_columns() -> Instance:
    """The weight with its inputs first; the shift passes a second gain, a map, and a bias takes it back behind that."""
    gains = (Gain("gamma"), Gain("delta", 2.0, 0.5))
    after = AffineTerm("b", SliceView("v", (4, 2), (0, 1)), True, np.arange(2), np.arange(2), np.ones(2))
    term = ShearTerm(
        slices("w", (1, 2), (1,), each(2, 1.0)), 0, ((gains[0], 1.0), (gains[1], 1.0)), (("beta", ((gains[1], 1.0),)),)
    )  # fmt: skip
    points = torch.randn(6, 3, generator=torch.Generator().manual_seed(8)).double()
    points = points - points.mean(1, keepdim=True)
    return Instance(
        Shear(term, AffineShift((), (after,))),
        {"w": (3, 2), "gamma": (3,), "delta": (3,), "beta": (3,), "v": (4, 2), "b": (4,)},
        lambda p: ((points * p["gamma"] + p["beta"]) * (2 * p["delta"] + 0.5) @ p["w"]) @ p["v"].mT + p["b"],
    )


def shear_of_a_table() -> Instance:
    """Rows that are added to a table of positions as well as they score; all of them move alike."""
    columns = slices("p", (4, 3), (1,), each(3, -1.0))
    dressing, points = ((Gain("gamma"), 1.0),), torch.randn(5, 3, generator=torch.Generator().manual_seed(10)).double()
    points = points - points.mean(1, keepdim=True)
    term = ShearTerm(slices("w", (2, 1), (), each(1, 1.0)), 1, dressing, (("beta", ()),))
    answer = AffineShift((slices("b", (2,), (), each(1, -1.0)),), ())

    def invariant(p: Params) -> Tensor:
        scores = (points * p["gamma"] + p["beta"]) @ p["w"].mT + p["b"]
        return torch.cat([scores.reshape(-1), (p["w"][:, None] + p["p"]).reshape(-1)])

    shapes = {"w": (2, 3), "p": (4, 3), "gamma": (3,), "beta": (3,), "b": (2,)}
    return Instance(Shear(term, answer, Shift((columns,))), shapes, invariant)


def shear_behind_a_gain() -> Instance:
    """A weight that writes what a gain multiplies, before the mean of all channels is removed."""
    term = ShearTerm(slices("w", (1, 3), (1,), each(3, 1.0)), 0, ((Gain("lam", 2.0, 0.5), 1.0),))

    def invariant(p: Params) -> Tensor:
        written = (2 * p["lam"] + 0.5)[:, None] * p["w"]
        return torch.cat([(written - written.mean(0)).reshape(-1), p["lam"]])

    return Instance(Shear(term, AffineShift((), ())), {"w": (4, 3), "lam": (4,)}, invariant)


def shear_of_groups_behind_a_gain() -> Instance:
    """The same of a bias, before the mean of each of two groups of channels is removed."""
    entries = [(0, 0, 1.0), (0, 1, 1.0), (1, 2, 1.0), (1, 3, 1.0), (1, 4, 1.0)]
    term = ShearTerm(slices("b", (5,), (0,), entries), 0, ((Gain("lam"), 1.0),))

    def invariant(p: Params) -> Tensor:
        parts = torch.split(p["lam"] * p["b"], [2, 3])
        return torch.cat([*(part - part.mean() for part in parts), p["lam"]])

    return Instance(Shear(term, AffineShift((), ())), {"b": (5,), "lam": (5,)}, invariant)


def _solved(inputs: int) -> Solved:
    """A map with as many inputs onto three outputs, of which the mean is removed."""
    numbers = np.arange(inputs)
    maps = AffineTerm("v (an output)", SliceView("v", (3, inputs), (0, 1)), True, numbers, numbers, np.ones(inputs))
    return Solved((maps,), slices("v (an output)", (3,), (), [(0, 0, 3.0)]), inputs)


def shear_that_is_solved_for() -> Instance:
    """What a weight adds to its outputs is what the map behind it turns into the same for all channels."""
    term = ShearTerm(slices("w", (3, 1), (0,), each(3, 1.0)), 1, ((Gain("gamma"), 1.0),))
    points = torch.randn(5, 4, generator=torch.Generator().manual_seed(11)).double()
    points = points - points.mean(1, keepdim=True)

    def invariant(p: Params) -> Tensor:
        made = (points * p["gamma"] + p["beta"]) @ p["w"].mT @ p["v"].mT
        return torch.cat([(made - made.mean(1, keepdim=True)).reshape(-1), p["gamma"]])

    shapes = {"v": (3, 3), "w": (3, 4), "gamma": (4,), "beta": (4,)}
    return Instance(Shear(term, AffineShift((), ()), None, _solved(3)), shapes, invariant)


def bias_that_is_solved_for() -> Instance:
    """The same of a bias, before a map with more inputs than outputs: the least shift of all."""
    term = ShearTerm(slices("b", (5,), (0,), each(5, 1.0)), 0, ())

    def invariant(p: Params) -> Tensor:
        made = p["v"] @ p["b"]
        return torch.cat([made - made.mean(), p["v"].reshape(-1)])

    return Instance(Shear(term, AffineShift((), ()), None, _solved(5)), {"b": (5,), "v": (3, 5)}, invariant)


def shear_of_a_kernel() -> Instance:
    """A kernel of two taps, of which the first output only may shift."""
    term = slices("w", (2, 1, 2), (0, 2), each(2, 1.0))
    taken = (slices("b", (2,), (0,), [(0, 0, -1.0), (1, 0, -1.0)]),)
    points = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(9)).double()
    points = points - points.mean(1, keepdim=True)
    return Instance(
        Shear(ShearTerm(term, 1, ((Gain("gamma"), 1.0),), (("beta", ()),)), AffineShift(taken, ())),
        {"w": (2, 3, 2), "gamma": (3,), "beta": (3,), "b": (2,)},
        lambda p: torch.nn.functional.conv1d(points * p["gamma"][:, None] + p["beta"][:, None], p["w"], p["b"]),
    )


def hyperbolas() -> Instance:
    """Two entries of a vector turned into each other, the third left alone."""
    entries = Entries("w", np.array([0, 1]), np.array([1, 0]), np.ones(2))
    return Instance(
        Bilinear((entries,)), {"w": (3,)}, lambda p: torch.stack([p["w"][0] ** 2 - p["w"][1] ** 2, p["w"][2]])
    )


def one_stretch() -> Instance:
    """Two layers with one symmetric matrix between them, written out over all their entries."""
    m = torch.tensor([[0.5, 1.0], [1.0, -0.25]], dtype=torch.float64)
    parts = (("w", torch.kron(m, torch.eye(3).double())), ("v", torch.kron(torch.eye(2).double(), -m)))
    matrices = []
    for name, matrix in parts:
        rows, columns = matrix.nonzero(as_tuple=True)
        matrices.append(Entries(name, rows.numpy(), columns.numpy(), matrix[rows, columns].numpy()))
    return Instance(Bilinear(tuple(matrices)), {"w": (2, 3), "v": (2, 2)}, lambda p: p["v"] @ p["w"])


def turning() -> Instance:
    """Two channels turned by one angle; the field is integrated."""

    def field(p: Params) -> Params:
        return {"w": torch.stack([-p["w"][1], p["w"][0]])}

    return Instance(Own(("w",), (), "antisymmetric", "it turns", field), {"w": (2, 3)}, lambda p: p["w"].mT @ p["w"])


def sliding() -> Instance:
    """u → u e^{-st}, v → v + st, with a vector s that decides how fast: u e^v stays."""

    def field(p: Params) -> Params:
        return {"u": -p["s"] * p["u"], "v": p["s"].clone()}

    def finite(p: Params, time: Tensor) -> Params:
        return p | {"u": p["u"] * torch.exp(-time * p["s"]), "v": p["v"] + time * p["s"]}

    return Instance(
        Own(("u", "v"), ("s",), "other", "nonlinear", field, finite),
        {"u": (3,), "v": (3,), "s": (3,)},
        lambda p: torch.cat([p["u"] * p["v"].exp(), p["s"]]),
    )


INSTANCES: dict[str, Instance] = {
    "hyperbolas": hyperbolas(),
    "one stretch": one_stretch(),
    "turning": turning(),
    "sliding": sliding(),
    "rescale": rescale(),
    "rescale with weights": weighted(),
    "scale": scale(),
    "rescales that share a tensor": shared_element(),
    "gain about one": gain_about_one(),
    "gain about a vector": gain_about_a_vector(),
    "columns of a softmax layer": columns(),
    "biases that cancel": cancelling(),
    "affine, outputs first": affine(True),
    "affine, inputs first": affine(False),
    "affine through a kernel": affine_kernel(),
    "affine through maps in a row": affine_through_maps_in_a_row(),
    "affine in groups": affine_in_groups(),
    "affine in rows": affine_in_rows(),
    "affine beside a modulation": affine_beside_a_modulation(),
    "two layers": pair_of_layers(),
    "heads": heads(),
    "channels in the middle": three_dimensions(),
    "one rotary pair": rotary(1, 3),
    "three rotary pairs": rotary(3, 2),
    "plane": stream(2),
    "stream": stream(4),
    "slice of a stream": slice_of_a_stream(),
    "heads by themselves": heads_by_themselves(),
    "gained heads": gained_heads(),
    "centred": centred(),
    "turned pairs": turned_pairs(),
    "turned pairs of heads": turned_pairs_of_heads(),
    "stream through a gain": gained(),
    "mixing through a gain": mixed_through_gain(),
    "blind": blind(),
    "blind beside a sum": blind_beside_a_sum(),
    "shear": shear(False),
    "shear with a bias": shear(True),
    "shear of columns": shear_of_columns(),
    "shear of a kernel": shear_of_a_kernel(),
    "shear of a table": shear_of_a_table(),
    "shear behind a gain": shear_behind_a_gain(),
    "shear of groups behind a gain": shear_of_groups_behind_a_gain(),
    "shear that is solved for": shear_that_is_solved_for(),
    "bias that is solved for": bias_that_is_solved_for(),
}
