"""Spaces of published networks: which dimensions are permuted together, and with which group."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from neuralmechanics.symmetry import Space
from neuralmechanics.symmetry.finding.spaces import spaces_of as channel_spaces
from neuralmechanics.symmetry.lowering.capturing import capture
from neuralmechanics.symmetry.lowering.lower import lower
from neuralmechanics.symmetry.passes.rewriting.rewritten import rewritten

from .networks import SoftExperts, UNet, resnet, transformer, vgg16

Axes = frozenset[tuple[str, int]]


def spaces_of(model: nn.Module, batch: object) -> tuple[Space, ...]:
    """The spaces without the families, which take longer."""
    captured = capture(model, batch)
    return channel_spaces(captured, rewritten(lower(captured).program))


def axes_of(space: Space) -> Axes:
    return frozenset((entry.parameter, entry.axis) for entry in space.entries)


def images(size: int = 8) -> torch.Tensor:
    return torch.zeros(2, 3, size, size)


def grouped(axes_to_space: dict[str, tuple[str | None, ...]]) -> set[Axes]:
    """A published specification, from (parameter: a space for each axis) to (a set of axes for each space)."""
    found: dict[str, set[tuple[str, int]]] = {}
    for parameter, spaces in axes_to_space.items():
        for axis, space in enumerate(spaces):
            if space is not None:
                found.setdefault(space, set()).add((parameter, axis))
    return {frozenset(axes) for axes in found.values()}


def conv(name: str, before: str | None, after: str | None) -> dict[str, tuple[str | None, ...]]:
    return {f"{name}.weight": (after, before, None, None)}


def norm(name: str, space: str | None) -> dict[str, tuple[str | None, ...]]:
    return {f"{name}.weight": (space,), f"{name}.bias": (space,)}


def dense(name: str, before: str | None, after: str | None) -> dict[str, tuple[str | None, ...]]:
    return {f"{name}.weight": (after, before), f"{name}.bias": (after,)}


def test_multilayer_perceptron() -> None:
    """Ainsworth et al. 2023: one permutation a hidden layer, of rows, bias and the next layer's columns."""
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 3))
    spaces = spaces_of(model, torch.zeros(2, 5))
    expected = grouped({**dense("0", None, "p"), **dense("2", "p", "q"), **dense("4", "q", None)})
    assert {axes_of(space) for space in spaces} == expected
    assert [space.group for space in spaces] == ["positive monomial"] * 2
    assert [space.width for space in spaces] == [6, 7]
    assert [d.exponents for space in spaces for d in space.directions] == [(1.0, 1.0, -1.0)] * 2


def test_vgg16() -> None:
    """One permutation a convolution and its norm, through flattened pixels into the classifier, one a layer there."""
    model = vgg16(2)
    convs = [str(k) for k, layer in enumerate(model[0]) if isinstance(layer, nn.Conv2d)]
    assert len(convs) == 13
    spec: dict[str, tuple[str | None, ...]] = {}
    for before, name in zip([None, *convs], convs, strict=False):
        spec |= conv(f"0.{name}", before, name) | {f"0.{name}.bias": (name,)} | norm(f"0.{int(name) + 1}", name)
    spec |= dense("2.0", convs[-1], "d1") | dense("2.3", "d1", "d2") | dense("2.6", "d2", None)
    spaces = spaces_of(model, images(32))
    assert {axes_of(space) for space in spaces} == grouped(spec)
    assert [space.group for space in spaces] == ["permutation"] * 13 + ["positive monomial"] * 2
    assert [any("dropout" in text for text in space.requires) for space in spaces] == [False] * 13 + [True] * 2


def residual_spec(depths: tuple[int, ...], convolutions: int, projected: tuple[int, ...]) -> Iterator[
    dict[str, tuple[str | None, ...]]
]:  # fmt: skip
    """The specification of a residual network: one space a stage, and those inside each block."""
    yield conv("0", None, "s0") | norm("1", "s0")
    stream, position = "s0", 3
    for stage, depth in enumerate(depths):
        for block in range(depth):
            name, after = str(position), stream
            if block == 0 and stage in projected:
                after = f"s{stage + 1}"
                yield conv(f"{name}.shortcut.0", stream, after) | norm(f"{name}.shortcut.1", after)
            inside = [stream, *(f"{name}.{k}" for k in range(convolutions - 1)), after]
            for k in range(convolutions):
                yield conv(f"{name}.convs.{k}", inside[k], inside[k + 1]) | norm(f"{name}.norms.{k}", inside[k + 1])
            stream, position = after, position + 1
    yield dense(str(position + 2), stream, None)


@pytest.mark.parametrize(
    ("depths", "bottleneck", "projected", "count"),
    [((3, 3, 3), False, (1, 2), 3 + 9), ((3, 4, 6, 3), True, (0, 1, 2, 3), 5 + 2 * 16)],
    ids=["ResNet-20", "ResNet-50"],
)
def test_residual_networks(depths: tuple[int, ...], bottleneck: bool, projected: tuple[int, ...], count: int) -> None:
    """The residual stream of each stage is one space, tied through blocks and projections; each block has its own."""
    model = resnet(depths, (4, 8, 16, 32)[: len(depths)], bottleneck)
    spec: dict[str, tuple[str | None, ...]] = {}
    for part in residual_spec(depths, 3 if bottleneck else 2, projected):
        spec |= part
    spaces = spaces_of(model, images())
    assert {axes_of(space) for space in spaces} == grouped(spec)
    assert len(spaces) == count
    assert {space.group for space in spaces} == {"permutation"}


def by_group(spaces: tuple[Space, ...]) -> list[tuple[str, int, tuple[int, ...]]]:
    return [(space.group, space.width, space.copies_shape) for space in spaces]


HEADS = [("permutation", 2, ()), ("general linear", 3, (2,)), ("general linear", 3, (2,))]


def test_layer_norm_transformer() -> None:
    """The stream turns by what keeps length and mean; heads are permuted, each with two bases of its own."""
    spaces = spaces_of(transformer(nn.LayerNorm), torch.zeros(2, 3, dtype=torch.int64))
    assert by_group(spaces) == [("ones-preserving orthogonal", 4, ())] + 2 * [*HEADS, ("monomial", 5, ())]


def test_rms_norm_transformer() -> None:
    """The same with all rotations and reflections of the stream, signed permutations among them."""
    spaces = spaces_of(transformer(nn.RMSNorm), torch.zeros(2, 3, dtype=torch.int64))
    assert by_group(spaces) == [("orthogonal", 4, ())] + 2 * [*HEADS, ("monomial", 5, ())]
    stream = spaces[0]
    assert {e.parameter: e.dressing[0][0].parameter for e in stream.entries if e.dressing} == {
        **{f"{b}.attention.{n}.weight": f"{b}.norm1.weight" for b in (1, 2) for n in "qkv"},
        **{f"{b}.{n}.weight": f"{b}.norm2.weight" for b in (1, 2) for n in ("gate", "up")},
        "4.weight": "3.weight",
    }


def test_tied_embedding_keeps_signs() -> None:
    """With one matrix at both ends a gain between them leaves signed permutations under RMS norm."""
    model = transformer(nn.RMSNorm)
    model[-1].weight = model[0].weight
    assert spaces_of(model, torch.zeros(2, 3, dtype=torch.int64))[0].group == "signed permutation"
    model = transformer(nn.LayerNorm)
    model[-1].weight = model[0].weight
    assert spaces_of(model, torch.zeros(2, 3, dtype=torch.int64))[0].group == "permutation"


def test_grouped_queries() -> None:
    """Groups are permuted, and the query heads within each of them."""
    spaces = spaces_of(transformer(nn.RMSNorm, queries=6, groups=2), torch.zeros(2, 3, dtype=torch.int64))
    grouped_queries = [("permutation", 2, ()), ("permutation", 3, (2,))]
    bases = [("general linear", 3, (2,))] * 2
    assert by_group(spaces)[1:6] == [grouped_queries[0], grouped_queries[1], *bases, ("monomial", 5, ())]


def test_experts_with_their_router() -> None:
    """Experts are permuted with the router's rows, the hidden units of each expert apart."""
    spaces = spaces_of(SoftExperts(), torch.zeros(2, 4))
    assert by_group(spaces) == [("permutation", 3, ()), ("positive monomial", 5, (3,))]
    assert axes_of(spaces[0]) == {("router.weight", 0), ("first", 0), ("second", 0)}
    assert axes_of(spaces[1]) == {("first", 2), ("second", 1)}


def test_diffusion_unet() -> None:
    """Group norms leave permutations of groups and within each; the transformers inside are as any other."""
    batch = torch.zeros(1, 3, 4, 4), torch.zeros(1, 6), torch.zeros(1, 2, 5)
    spaces = spaces_of(UNet(), batch)
    groups = by_group(spaces)
    assert groups.count(("ones-preserving orthogonal", 6, ())) == 3
    assert groups.count(("general linear", 3, (2,))) == 3 * 4
    assert groups.count(("monomial", 7, ())) == 3
    of_groups = [space for space in spaces if space.group == "permutation" and space.width == 4 and space.copies]
    assert all(space.copies_shape == (2,) for space in of_groups)
    skipped = next(axes_of(s) for s in spaces if ("first.skip.weight", 0) in axes_of(s))
    assert {("down.weight", 1), ("last.skip.weight", 1), ("last.conv1.weight", 1), ("first.leave.weight", 0)} <= skipped
