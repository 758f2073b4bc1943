"""Families and their action: values beside each other, errors that name them, plain data of earlier versions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries
from neuralmechanics.symmetry import Breaking, Family, Symmetries
from neuralmechanics.symmetry.families.actions import (
    AffineDiagonal,
    AffineShift,
    Bilinear,
    ComplexPairs,
    Diagonal,
    LinearBlocks,
    Own,
    Rotation,
    Shear,
    Shift,
)

from .acting import INSTANCES, slices

KINDS = {
    Diagonal: "rescale", Shift: "translation", LinearBlocks: "linear", ComplexPairs: "linear", AffineShift: "affine",
    Rotation: "linear", Shear: "affine", AffineDiagonal: "rescale", Bilinear: "linear", Own: "nonlinear",
}  # fmt: skip


def family_of(name: str) -> Family:
    """The instance as a family, its parameters told from those of other instances."""
    action: Any = INSTANCES[name].action
    count = action.charges or action.weights_shape[0]
    labels = [f"{name} {k}" for k in range(count)]
    broken = (Breaking("eps", 1e-5, "norm"),) if name == "scale" else ()
    return Family(KINDS[type(action)], name, labels, action, broken, ("training mode",), "layer")


def alone(name: str) -> tuple[Symmetries, dict[str, Tensor]]:
    return Symmetries((family_of(name),)), INSTANCES[name].params()


@pytest.mark.parametrize("name", INSTANCES)
def test_all_families_beside_each_other(name: str) -> None:
    """What ``Symmetries`` evaluates one parameter at a time is what the family says, twice where it stands twice."""
    family, params, other = family_of(name), INSTANCES[name].params(), INSTANCES[name].params(3)
    whole = [slices(n, tuple(p.shape), (), [(0, 0, 2.0)]) for n, p in params.items()]
    both = Symmetries((family, Family("translation", "whole", ["whole"], Shift(tuple(whole))), family))
    expected = torch.cat([f.pair(params, other) for f in both])
    assert torch.allclose(both.pair(params, other), expected, rtol=1e-12, atol=1e-13)
    sizes = torch.cat([f.action.scale(params, params) for f in both])
    assert torch.allclose(both.tangent_scale(params), sizes, rtol=1e-12)
    points = [(f, f.action.point(params)) for f in both]
    assert torch.allclose(both.charge_scale(params), torch.cat([f.action.scale(p, p) for f, p in points]), rtol=1e-12)
    assert torch.allclose(both.charge(params), torch.cat([f.charge(params) for f in both]), rtol=1e-12, atol=1e-13)
    residuals = torch.cat([f.residual(other, params) for f in both])
    assert torch.allclose(both.residual(other, params), residuals, rtol=1e-12, atol=1e-13)
    assert both.charges == len(both.labels) == sum(f.charges for f in both)


@pytest.mark.parametrize("name", INSTANCES)
def test_plain_data_of_a_family(name: str) -> None:
    symmetries, params = alone(name)
    (family,), data = symmetries, json.loads(json.dumps(symmetries.to_dict()))
    (again,) = Symmetries.from_dict(data)
    assert type(again.action) is type(family.action)
    assert again.to_dict() == family.to_dict()
    assert (again.kind, again.name, again.broken_by, again.requires, again.layer) == (
        family.kind, family.name, family.broken_by, family.requires, family.layer,
    )  # fmt: skip
    if isinstance(family.action, Own):  # a function is not data
        with pytest.raises(ValueError, match="is not stored; give it again"):
            again.generator(params)
        return
    assert all(torch.equal(x, again.generator(params)[n]) for n, x in family.generator(params).items())


VIEW = {"parameter": "w", "shape": [2, 2], "kept": [0]}
TERM = {"view": VIEW, "charges": [0, 1], "slices": [0, 1], "coefficients": [1.0, 1.0]}
GRAM = {"view": VIEW, "slices": [[0, 1]], "blocks": [0], "signs": [1]}
BIAS = {"view": {"parameter": "b", "shape": [2], "kept": [0]}, "charges": [0, 1], "slices": [0, 1],
        "coefficients": [1.0, 1.0]}  # fmt: skip
ANSWER = {"absorber": "c", "weight": {"parameter": "w", "shape": [2, 2], "kept": [0, 1]}, "output_first": True,
          "inputs": [0, 1], "generators": [0, 1], "coefficients": [1.0, 1.0]}  # fmt: skip
GAIN = [{"parameter": "g", "factor": 1.0, "offset": 1.0}, -1.0]
TURN = {"type": "turn", "terms": [{"parameter": "w", "dim": 0, "dual": True, "dressing": [GAIN]}], "width": 2,
        "group": "general"}  # fmt: skip
SHEAR = {"type": "shear", "width": 2, "term": {"weight": "w", "outputs": 0, "inputs": 1, "dressing": [GAIN],
         "shifts": [["s", []]], "absorber": "b"}}  # fmt: skip
# What version 0.1.0 wrote before a family had an action, one of each form: kind, labels, what is filled, and its class.
WRITTEN: dict[str, tuple[str, Any, dict[str, Any], type]] = {
    "scale": ("scale", ["w[0]", "w[1]"], {"terms": [TERM]}, Diagonal),
    "rescale": ("rescale", ["w[0]", "w[1]"], {"terms": [TERM]}, Diagonal),
    "translation": ("translation", ["w[0]", "w[1]"], {"terms": [TERM]}, Shift),
    "blocks": ("linear", {"names": ["w[0] block"], "width": 2}, {"grams": [GRAM], "blocks": 1}, LinearBlocks),
    "pairs": ("linear", ["w[0] block"], {"grams": [GRAM], "blocks": 1, "complex": True}, ComplexPairs),
    "affine": ("affine", ["b[0]", "b[1]"], {"terms": [BIAS], "affine": [ANSWER]}, AffineShift),
    "turn": ("linear", [], {"gauge": TURN}, Rotation),
    "shear": ("affine", [], {"gauge": SHEAR}, Shear),
}


@pytest.mark.parametrize("form", WRITTEN)
def test_what_earlier_versions_wrote_is_read_and_written_alike(form: str) -> None:
    kind, labels, filled, expected = WRITTEN[form]
    empty = {"terms": [], "grams": [], "blocks": 0, "affine": [], "complex": False, "gauge": None}
    data = {
        "kind": kind,
        "name": form,
        "labels": labels,
        **empty,
        **filled,
        "broken_by": [],
        "requires": [],
        "layer": "l",
    }
    family = Family.from_dict(json.loads(json.dumps(data)))
    assert type(family.action) is expected
    assert json.dumps(family.to_dict(), sort_keys=True) == json.dumps(data, sort_keys=True)
    assert list(family.to_dict()) == list(data)


def test_errors_name_the_family() -> None:
    rescale, heads, pairs = (family_of(name) for name in ("rescale", "heads", "three rotary pairs"))
    params = {name: INSTANCES[name].params() for name in ("rescale", "heads", "three rotary pairs")}
    with pytest.raises(ValueError, match=r"family 'rescale': a factor must be positive, got -1; use a > 0"):
        rescale.transform(params["rescale"], -1.0)
    with pytest.raises(ValueError, match=r"family 'rescale': a factor must be positive, got nan"):
        rescale.transform(params["rescale"], math.nan)
    with pytest.raises(
        ValueError, match=r"family 'rescale': weights of shape \(2,\) given, one number for each of its 3"
    ):
        rescale.generator(params["rescale"], torch.ones(2))
    with pytest.raises(ValueError, match=r"family 'heads': matrices of shape \(3, 3\) given, \(2, 2, 2\) or \(2, 2\)"):
        heads.transform(params["heads"], torch.eye(3))
    with pytest.raises(ValueError, match=r"'three rotary pairs': factors of shape \(3,\) given, \(3, 2\) is needed"):
        pairs.transform(params["three rotary pairs"], torch.ones(3))
    with pytest.raises(ValueError, match="family 'rescale' is of kind rescale: only linear blocks"):
        rescale.charge_matrix(params["rescale"])
    with pytest.raises(ValueError, match="2 labels given for 3 charges"):
        Family("rescale", "short", ["a", "b"], INSTANCES["rescale"].action)


def test_one_matrix_or_factor_for_all_blocks() -> None:
    family, params = family_of("heads"), INSTANCES["heads"].params()
    matrix = torch.tensor([[1.0, 2.0], [0.5, 3.0]], dtype=torch.float64)
    once, each = family.transform(params, matrix), family.transform(params, matrix.expand(2, 2, 2))
    assert all(torch.equal(once[n], each[n]) for n in params)
    doubled = family.transform(params, 2.0)
    assert torch.allclose(doubled["w"], 2 * params["w"])
    assert torch.allclose(doubled["v"], params["v"] / 2)
    upper = family.charge_matrix(params)[:, *torch.triu_indices(2, 2)]
    assert torch.allclose(upper.reshape(-1), family.charge(params), rtol=1e-14)


def test_a_pair_is_multiplied_by_its_complex_factor() -> None:
    """z = x + iy goes to a z where the sign is +1, to z / ā where it is -1; a number stands for a real factor."""
    family, params = family_of("three rotary pairs"), INSTANCES["three rotary pairs"].params()
    factor = torch.tensor([1 + 2j, -0.5j, 0.3 - 1j], dtype=torch.complex128)
    moved = family.transform(params, torch.view_as_real(factor))
    for name, by in (("q", factor), ("k", 1 / factor.conj())):
        before, after = (torch.complex(p[name][:3], p[name][3:]) for p in (params, moved))
        assert torch.allclose(after, by[:, None] * before, rtol=1e-14)
    assert torch.equal(family.transform(params, 2.0)["q"], 2 * params["q"])


@pytest.mark.parametrize("name", INSTANCES)
def test_former_names_are_read_with_a_warning(name: str) -> None:
    """``family.grams`` and the like: one of the forms, the others empty."""
    family, action = family_of(name), INSTANCES[name].action
    found = {}
    for former in ("terms", "grams", "affine", "gauge", "blocks", "width", "complex"):
        with pytest.warns(DeprecationWarning, match="part of Family.action"):
            found[former] = getattr(family, former)
    assert bool(found["terms"]) == isinstance(action, Diagonal | Shift | AffineShift)
    assert bool(found["affine"]) == isinstance(action, AffineShift)
    assert bool(found["grams"]) == bool(found["blocks"]) == bool(found["width"])
    assert bool(found["grams"]) == isinstance(action, LinearBlocks | ComplexPairs)
    assert found["complex"] == isinstance(action, ComplexPairs)
    assert (found["gauge"] is action) == isinstance(action, Rotation | Shear)
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        _ = family.colour  # type: ignore[attr-defined]


def test_the_flow_is_the_transformation_along_the_generator() -> None:
    family, params = family_of("stream"), INSTANCES["stream"].params()
    weights = torch.linspace(-1, 1, family.size, dtype=torch.float64)
    ahead, behind = (family.flow(params, weights, time) for time in (1e-5, -1e-5))
    slope = {n: (ahead[n] - behind[n]) / 2e-5 for n in params}
    assert all(torch.allclose(slope[n], x, rtol=1e-8, atol=1e-9) for n, x in family.generator(params, weights).items())


@pytest.mark.parametrize(
    "name", ["plane", "stream", "centred", "stream through a gain", "mixing through a gain", "blind"]
)
def test_a_rotation_takes_its_matrix(name: str) -> None:
    """exp M given as a matrix is exp M given by its weights; what is no member of the group is refused with its law."""
    family, instance = family_of(name), INSTANCES[name]
    action, params = instance.action, instance.params()
    assert isinstance(action, Rotation)
    weights = torch.linspace(-0.5, 0.7, family.size, dtype=torch.float64)
    matrix = torch.linalg.matrix_exp(action.matrix(weights))
    by_weights, by_matrix = family.transform(params, weights), family.transform(params, matrix)
    assert all(torch.allclose(by_weights[n], by_matrix[n], rtol=1e-13, atol=1e-13) for n in params)
    wrong_ones = [torch.full_like(matrix, math.nan), torch.zeros_like(matrix)]
    if action.group != "general":  # that is of all invertible matrices
        wrong_ones += [1.01 * matrix, matrix.float() + 1e-6]
    for wrong in wrong_ones:
        with pytest.raises(ValueError, match=rf"family {name!r}: the matrix given is off by"):
            family.transform(params, wrong)


def test_a_reflection_and_a_permutation_are_orthogonal() -> None:
    """The finite group is larger than its rotations: the invariants stay for determinant -1 too."""
    instance, family = INSTANCES["stream"], family_of("stream")
    params = instance.params()
    before = instance.function(params)
    for matrix in (torch.eye(4)[[1, 0, 2, 3]], torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0]))):
        assert float(instance.function(family.transform(params, matrix)) - before) == pytest.approx(0, abs=1e-12)
    blind = family_of("blind")
    unit, ones = torch.eye(3, dtype=torch.float64), torch.ones(3, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="off by inf from an invertible"):
        blind.transform(INSTANCES["blind"].params(), unit - ones / 3)
    centred = family_of("centred")
    with pytest.raises(ValueError, match="A·1 = 1"):
        centred.transform(INSTANCES["centred"].params(), torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0])))


@pytest.mark.parametrize("name", INSTANCES)
def test_weights_go_where_the_parameters_are(name: str) -> None:
    """Weights are drawn on the host; on another device nothing is computed on both."""
    family, action = family_of(name), INSTANCES[name].action
    params = {n: p.to("meta") for n, p in INSTANCES[name].params().items()}
    weights = action.random_weights(torch.Generator().manual_seed(0))
    xi = family.generator(params, weights)
    found = [xi, family.flow(params, weights), family.adjoint(params, weights, params)]
    found += [family.second_derivative(xi, weights, params), {"pair": family.pair(params, params)}]
    found += (
        [{"scale": action.scale(params, params), "moment": action.moment(params, params)}] if family.charges else []
    )
    assert {t.device.type for tensors in found[:4] for t in tensors.values()} == {"meta"}
    assert {t.device.type for tensors in found[4:] for t in tensors.values() if t.numel()} <= {"meta"}


_ASKED: dict[str, Callable[[Symmetries, dict[str, Tensor]], object]] = {
    "charge": lambda s, p: s.charge(p),
    "pair": lambda s, p: s.pair(p, p),
    "scale": lambda s, p: s.charge_scale(p),
    "generator": lambda s, p: s.generator(p),
    "balance": lambda s, p: s.balance(p),
    "charge of a family": lambda s, p: s[0].charge(p),
    "pair of a family": lambda s, p: s[0].pair(p, p),
    "residual of a family": lambda s, p: s[0].residual(p, p),
    "generator of a family": lambda s, p: s[0].generator(p),
    "element of a family": lambda s, p: s[0].transform(p, 2.0),
    "flow of a family": lambda s, p: s[0].flow(p, torch.ones(4)),
}


@pytest.mark.parametrize("stored", [False, True], ids=["found", "read back"])
@pytest.mark.parametrize("asked", _ASKED)
def test_a_transposed_parameter_is_refused(asked: str, stored: bool) -> None:
    """It has as many elements, but its rows are columns: the numbers would be those of other slices."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    found = find_symmetries(model, torch.ones(2, 4))
    symmetries = Symmetries.from_dict(json.loads(json.dumps(found.to_dict()))) if stored else found
    params = {name: p.detach() for name, p in model.named_parameters()}
    _ASKED[asked](symmetries, params)
    with pytest.raises(ValueError, match=r"'2\.weight' has the shape \(4, 3\), and had \(3, 4\)"):
        _ASKED[asked](symmetries, params | {"2.weight": params["2.weight"].T})


@pytest.mark.parametrize("name", ["shear that is solved for", "bias that is solved for"])
def test_where_a_map_has_lost_its_rank_nothing_moves(name: str) -> None:
    """M u = F w has no solution for a singular M: the parameters stay, and no least-squares answer is given out."""
    family, params = family_of(name), INSTANCES[name].params()
    solved = family.action.solved  # type: ignore[attr-defined]
    moved = family.transform(params, 1.0)
    assert any(not torch.equal(moved[n], p) for n, p in params.items())
    draw = torch.Generator().manual_seed(0)

    def rank_one(weight: Tensor) -> Tensor:
        left, right = (torch.randn(n, generator=draw, dtype=weight.dtype) for n in weight.shape)
        return torch.outer(left, right)  # singular to rounding: elimination finds some answer or other

    for flat in (torch.zeros_like, rank_one):
        dead = params | {n: flat(params[n]) for n in solved.inputs}
        after = family.transform(dead, 1.0)
        assert all(torch.equal(after[n], p) for n, p in dead.items())
