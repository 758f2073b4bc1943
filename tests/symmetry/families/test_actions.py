"""The same laws of every action: a new one comes with instances in ``acting``, and all of this holds of them."""

from __future__ import annotations

import importlib
import json
import math
import pkgutil
from collections.abc import Mapping
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from torch import Tensor

from neuralmechanics.slices import SliceMix
from neuralmechanics.symmetry.families import actions
from neuralmechanics.symmetry.families.actions import FORMS, Action, Bilinear, Diagonal, Form, Own, Rotation, Shift
from neuralmechanics.symmetry.families.actions.action import PointNeededError
from neuralmechanics.symmetry.families.displacement import Displacement

from .acting import INSTANCES, Instance

Params = dict[str, Tensor]
CPU = torch.device("cpu")


@pytest.fixture(params=INSTANCES.values(), ids=INSTANCES.keys())
def case(request: pytest.FixtureRequest) -> Instance:
    instance: Instance = request.param
    return instance


def weights_of(action: Action, seed: int) -> Tensor:
    return action.random_weights(torch.Generator().manual_seed(seed))


def flow(action: Action, params: Params, weights: Tensor) -> Params:
    return action.transform(params, action.exponential(weights))


def flat(tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> Tensor:
    """All elements in the order of ``like``, zero where a name is absent."""
    return torch.cat([tensors.get(name, torch.zeros_like(p)).detach().double().reshape(-1) for name, p in like.items()])


def unflat(vector: Tensor, like: Mapping[str, Tensor]) -> Params:
    pieces = vector.split([p.numel() for p in like.values()])
    return {name: piece.reshape(p.shape) for (name, p), piece in zip(like.items(), pieces, strict=True)}


def generator(action: Action, params: Params, weights: Tensor) -> Tensor:
    return flat(action.generator(params, weights), params)


def units(action: Action) -> list[tuple[Form, Tensor]]:
    return [(form, weights) for form in FORMS for weights in action.units(form)]


def random_like(params: Params, seed: int) -> Params:
    draw = torch.Generator().manual_seed(seed)
    return {name: torch.randn(p.shape, generator=draw, dtype=torch.float64) for name, p in params.items()}


def gradient(case: Instance, params: Params) -> Params:
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    parts = torch.autograd.grad(case.function(leaves), list(leaves.values()), materialize_grads=True, allow_unused=True)
    return dict(zip(leaves, parts, strict=True))


def jacobian(action: Action, params: Params, weights: Tensor) -> Tensor:
    """∂ξ/∂θ over all parameters by central differences, column by column."""
    theta, step = flat(params, params), 1e-5
    columns = [
        generator(action, unflat(theta + step * e, params), weights)
        - generator(action, unflat(theta - step * e, params), weights)
        for e in torch.eye(len(theta), dtype=torch.float64)
    ]
    return torch.stack(columns, dim=1) / (2 * step)


def test_every_action_has_an_instance() -> None:
    for module in pkgutil.walk_packages(actions.__path__, f"{actions.__name__}."):
        importlib.import_module(module.name)
    known = set(Action.__subclasses__())
    assert known == {type(case.action) for case in INSTANCES.values()}
    assert {c for c in known if len([i for i in INSTANCES.values() if type(i.action) is c]) < 2} == set()


def test_names_are_those_that_move_and_those_that_enter(case: Instance) -> None:
    """Only ``parameters`` move; ξ depends on nothing but ``parameters`` and ``inputs``, and on every input."""
    action, params = case.action, case.params()
    weights = weights_of(action, 1)
    assert set(action.generator(params, weights)) == set(action.parameters)
    moved = flow(action, params, weights)
    assert set(moved) == set(params)
    assert {name for name in params if not torch.equal(moved[name], params[name])} == set(action.parameters)
    own = action.generator(params, weights)
    others = case.params(seed=9)
    for name in params:
        changed = action.generator(params | {name: others[name]}, weights)
        differs = any(not torch.allclose(changed[n], own[n], rtol=1e-12, atol=0) for n in own)
        assert differs or name not in action.inputs
        assert not differs or name in (*action.parameters, *action.inputs)


def test_one_parameter_groups(case: Instance) -> None:
    """ψ_s ∘ ψ_t = ψ_{s+t}, and ψ_0 is the identity."""
    action, params, weights = case.action, case.params(), weights_of(case.action, 1)
    once = flow(action, flow(action, params, 0.3 * weights), 0.5 * weights)
    whole = flow(action, params, 0.8 * weights)
    assert torch.allclose(flat(once, params), flat(whole, params), rtol=1e-12, atol=1e-13)
    back = flow(action, whole, -0.8 * weights)
    assert torch.allclose(flat(back, params), flat(params, params), rtol=1e-12, atol=1e-12)
    assert torch.allclose(flat(flow(action, params, 0 * weights), params), flat(params, params), rtol=1e-15, atol=1e-15)


def test_inverses(case: Instance) -> None:
    """ψ(a⁻¹, ψ(a, θ)) = θ."""
    action, params = case.action, case.params()
    element = action.exponential(0.5 * weights_of(action, 1))
    back = action.transform(action.transform(params, element), action.inverse(element))
    assert torch.allclose(flat(back, params), flat(params, params), rtol=1e-12, atol=1e-12)


def derivative(action: Action, params: Params, element: Tensor) -> Tensor:
    """J = ∂ψ(a, θ)/∂θ over all parameters by central differences, column by column."""
    theta, step = flat(params, params), 1e-5
    columns = [
        flat(action.transform(unflat(theta + step * e, params), element), params)
        - flat(action.transform(unflat(theta - step * e, params), element), params)
        for e in torch.eye(len(theta), dtype=torch.float64)
    ]
    return torch.stack(columns, dim=1) / (2 * step)


def test_gradients_after_a_transformation(case: Instance) -> None:
    """J⁻ᵀ g; refused by those that do not know J, and without θ by those whose J depends on it."""
    action, params = case.action, case.params()
    element, g = action.exponential(0.5 * weights_of(action, 1)), random_like(params, 6)
    if isinstance(action, (Own, Bilinear)) or (isinstance(action, Rotation) and action.inputs):
        with pytest.raises(PointNeededError):
            action.cotangent(g, element, params)
        return
    whole = derivative(action, params, element)
    expected = torch.linalg.solve(whole.mT, flat(g, params))
    found = flat(action.cotangent(dict(g), element, params), params)
    assert torch.allclose(found, expected, rtol=1e-8, atol=1e-8)
    if action.inputs:
        with pytest.raises(PointNeededError, match="params="):
            action.cotangent(g, element, None)
    else:
        assert torch.equal(flat(action.cotangent(dict(g), element, None), params), found)


def test_squares_of_gradients_after_a_transformation(case: Instance) -> None:
    """(J∘J)⁻¹ s exactly where J is diagonal, whatever the element; nothing else."""
    action, params = case.action, case.params()
    element = action.exponential(0.5 * weights_of(action, 1))
    squares = {name: p.square() for name, p in random_like(params, 7).items()}
    found = action.square_cotangent(dict(squares), element)
    if isinstance(action, (Own, Bilinear)):
        assert found is None
        return
    whole = derivative(action, params, element)
    apart = float((whole - torch.diag(whole.diagonal())).abs().max()) < 1e-8
    assert (found is not None) == apart
    if found is not None:
        expected = flat(squares, params) / whole.diagonal().square()
        assert torch.allclose(flat(found, params), expected, rtol=1e-7, atol=1e-9)


def test_compact_groups_keep_lengths(case: Instance) -> None:
    action, params = case.action, case.params()
    if action.compact and not action.inputs:
        moved = flow(action, params, weights_of(action, 1))
        assert all(float(moved[n].norm()) == pytest.approx(float(params[n].norm()), rel=1e-12) for n in params)
    if action.along_ones:
        moved = flow(action, params, weights_of(action, 1))
        for term in (t for t in action.terms if not t.dual and not t.dressing):  # type: ignore[attr-defined]
            step = (moved[term.parameter] - params[term.parameter]).movedim(term.dim, 0)
            assert torch.allclose(step, step[:1].expand_as(step), rtol=1e-12, atol=1e-12)


def test_factors_of_slices(case: Instance) -> None:
    """What ``factor_terms`` say is done to ``point(θ)``, whose constants are those of ``origin``."""
    action, params = case.action, case.params()
    c = {name: value.expand(params[name].shape) for name, value in action.origin(params).items()}
    point = {name: p + c.get(name, torch.zeros_like(p)) for name, p in params.items()}
    assert torch.equal(flat(action.point(params), params), flat(point, params))
    if action.factor_terms:
        element = action.exponential(weights_of(action, 1))
        expected = Diagonal(action.factor_terms).transform(point, element)
        moved = action.point(action.transform(params, element))
        assert torch.allclose(flat(moved, params), flat(expected, params), rtol=1e-12, atol=1e-13)


def test_factors_of_channels(case: Instance) -> None:
    """Diagonal matrices and real numbers among the elements do what ``channel_factors`` say."""
    action, params = case.action, case.params()
    if not action.channel_factors or action.factor_terms:
        return
    diagonal = Diagonal(action.channel_factors)
    factors = diagonal.exponential(weights_of(diagonal, 3))
    shape = action.weights_shape
    element = torch.diag_embed(factors.reshape(shape[:2])) if len(shape) == 3 else action.stretch(factors)
    moved, expected = (a.transform(params, e) for a, e in ((action, element), (diagonal, factors)))
    assert torch.allclose(flat(moved, params), flat(expected, params), rtol=1e-12, atol=1e-13)


def test_shifts_of_slices(case: Instance) -> None:
    """What ``shift_terms`` add, from the parameters that they name."""
    action, params = case.action, case.params()
    if action.shift_terms:
        weights = weights_of(action, 3)
        added = Shift(action.shift_terms).generator(params, weights)
        found = action.generator(params, weights)
        assert set(added) == set(action.anchors or action.parameters)
        assert all(torch.equal(found[name], step) for name, step in added.items() if name not in absorbing(action))


def absorbing(action: Action) -> set[str]:
    return {answer.absorber for answer in getattr(action, "answers", ())}


def test_nothing_moves_beside_the_slices_that_move(case: Instance) -> None:
    action, params = case.action, case.params()
    moved = flow(action, params, weights_of(action, 1))
    for name in action.parameters if action.moved_slices else ():
        still = torch.ones_like(params[name], dtype=torch.bool)
        for view, slices in (pair for pair in action.moved_slices if pair[0].parameter == name):
            chosen = torch.zeros(view.size, dtype=torch.bool)
            chosen[torch.as_tensor(slices)] = True
            kept = [n if d in view.kept else 1 for d, n in enumerate(view.shape)]
            still &= ~chosen.reshape(kept).expand(view.shape).reshape(still.shape)
        assert torch.equal(moved[name][still], params[name][still])


def test_charges_renumbered(case: Instance) -> None:
    """Charges that go to one place are added up, those at -1 are gone."""
    action, params = case.action, case.params()
    places = np.arange(action.charges) % 3 - 1 if action.charges > 1 else np.zeros(action.charges, dtype=int)
    some = action.renumbered(places)
    if some is not None:
        charges = action.charge(params)
        expected = [float(charges[torch.as_tensor(places == k)].sum()) for k in range(int(places.max()) + 1)]
        assert some.charge(params).tolist() == pytest.approx(expected, rel=1e-12, abs=1e-13)


def test_second_order_expansion(case: Instance) -> None:
    """ψ_t(θ) = θ + t ξ + t²/2 ∂²ψ/∂t² + O(t³): the order of what is left is 3, or nothing is left."""
    action, params, weights = case.action, case.params(), weights_of(case.action, 2)
    xi = action.generator(params, weights)
    first, second = flat(xi, params), flat(action.second_derivative(xi, weights, params), params)
    times = [0.5**k for k in range(4, 9)]
    left = [
        float(
            (
                flat(flow(action, params, t * weights), params) - flat(params, params) - t * first - t * t / 2 * second
            ).norm()
        )
        for t in times
    ]
    if max(left) < 1e-13:
        assert not action.linear or float(first.norm()) == 0
        return
    slopes = [math.log(a / b) / math.log(2) for a, b in pairwise(left)]
    assert abs(slopes[-1] - 3) < 0.1


def test_generators_are_linear_in_their_weights_and_independent(case: Instance) -> None:
    action, params = case.action, case.params()
    one, two = weights_of(action, 3), weights_of(action, 4)
    sum_of_both = generator(action, params, one) + 2 * generator(action, params, two)
    assert torch.allclose(generator(action, params, one + 2 * two), sum_of_both, rtol=1e-12, atol=1e-13)
    basis = torch.stack([weights.reshape(-1) for _, weights in units(action)])
    assert len(basis) == math.prod(action.weights_shape) == int(torch.linalg.matrix_rank(basis))


def test_forms_of_generators(case: Instance) -> None:
    """The Jacobian over all parameters, inputs included: zero, diagonal, symmetric, antisymmetric, or none of these."""
    params = case.params()
    for form, weights in units(case.action):
        matrix = jacobian(case.action, params, weights)
        size = float(matrix.norm())
        found = {
            "constant": size < 1e-9,
            "diagonal": float((matrix - torch.diag(matrix.diagonal())).norm()) < 1e-9,
            "symmetric": float((matrix - matrix.mT).norm()) < 1e-9,
            "antisymmetric": float((matrix + matrix.mT).norm()) < 1e-9,
        }
        assert next((name for name, holds in found.items() if holds), "other") == form


def test_one_charge_a_gradient(case: Instance) -> None:
    """Constant, diagonal and symmetric generators have a charge each, whose pairing with g is ⟨g, ξ⟩."""
    action, params = case.action, case.params()
    g = random_like(params, 5)
    conserved = [(f, w) for f, w in units(action) if f in ("constant", "diagonal", "symmetric")]
    assert len(conserved) == action.charges
    # of E_ij + E_ji, a half: the charge is the entry (i, j) itself
    expected = sorted(
        float(flat(g, params) @ generator(action, params, w)) * (0.5 if f == "symmetric" else 1) for f, w in conserved
    )
    assert sorted(action.residual(g, params).tolist()) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    if action.linear:
        assert action.pair(params, g).tolist() == pytest.approx(action.pair(g, params).tolist(), rel=1e-12, abs=1e-13)


def test_charges_are_sums_over_parameters(case: Instance) -> None:
    """The parts evaluated one parameter at a time, beside those of others, add up to the pairing and to the charge."""
    action, a, b = case.action, case.params(1), case.params(2)
    terms, offset = action.charge_terms(3), 3
    count = offset + action.charges + 2

    def paired(a: Params, b: Params) -> Tensor:
        out = torch.zeros(count, dtype=torch.float64)
        sums, products = SliceMix(count, terms.sums), SliceMix(count, terms.products)
        for name in action.parameters:
            sums.add_sums_(out, name, a[name])
            products.add_products_(out, name, a[name], b[name])
            for share in (*terms.grams, *terms.shares):
                if share.parameter == name:
                    share.add_(out, a[name], b[name])
        return out

    def padded(charges: Tensor) -> Tensor:
        return torch.cat([torch.zeros(3), charges, torch.zeros(2)])

    displacement = Displacement.of([terms], count)
    assert torch.allclose(paired(a, b), padded(action.pair(a, b)), rtol=1e-13, atol=1e-13)
    if action.linear:
        whole = displacement.completed(paired(a, a), displacement.sums(a))
        assert torch.allclose(whole, padded(action.charge(a)), rtol=1e-13, atol=1e-13)
    residual = paired(b, a) + displacement.sums(b)
    assert torch.allclose(residual, padded(action.residual(b, a)), rtol=1e-13, atol=1e-13)


def test_a_charge_is_at_most_its_scale(case: Instance) -> None:
    action, params = case.action, case.params()
    for seed in range(5):
        g = random_like(params, seed)
        size = action.scale(g, action.point(params))
        assert bool((action.residual(g, params).abs() <= size * (1 + 1e-12)).all())
        if action.linear:
            assert torch.allclose(action.scale(g, params), action.scale(params, g), rtol=1e-13)
    assert len(action.scale(params, params)) == action.charges


def test_adjoint(case: Instance) -> None:
    """⟨(∂ξ/∂θ)ᵀ g, v⟩ = d/dε ⟨g, ξ(θ + ε v)⟩ for all v, over all parameters."""
    action, params, weights = case.action, case.params(), weights_of(case.action, 6)
    g = random_like(params, 7)
    given = flat(action.adjoint(g, weights, params), params)
    slow = jacobian(action, params, weights).mT @ flat(g, params)
    assert torch.allclose(given, slow, rtol=1e-8, atol=1e-8)


def test_the_function_is_invariant(case: Instance) -> None:
    """L(ψ(θ)) = L(θ) for finite elements, as the action draws them too, and ⟨∇L, ξ⟩ = 0 for every generator."""
    action, params = case.action, case.params()
    before = float(case.function(params))
    draw = torch.Generator().manual_seed(8)
    elements = [element for _, element in action.random_elements(0.3, draw)]
    elements += [action.exponential(action.reach(params) * weights_of(action, seed)) for seed in range(3)]
    for element in elements:
        moved = action.transform(params, action.read_element(element, CPU))
        assert float(case.function(moved)) == pytest.approx(before, rel=1e-10)
        assert float((flat(moved, params) - flat(params, params)).norm()) > 0.05
    g = flat(gradient(case, params), params)
    assert float(g.norm()) > 1e-3
    for _, weights in units(action):
        xi = generator(action, params, weights)
        assert abs(float(g @ xi)) < 1e-10 * float(g.norm() * xi.norm())


def flowed(case: Instance, step: float, count: int) -> Params:
    """Gradient flow over a length near step · count, by Runge-Kutta steps of fourth order."""

    def slope(params: Params) -> Params:
        return {name: -g for name, g in gradient(case, params).items()}

    def along(params: Params, direction: Params, h: float) -> Params:
        return {name: p + h * direction[name] for name, p in params.items()}

    theta = case.params()
    step /= float(flat(gradient(case, theta), theta).norm())
    for _ in range(count):
        k1 = slope(theta)
        k2 = slope(along(theta, k1, step / 2))
        k3 = slope(along(theta, k2, step / 2))
        k4 = slope(along(theta, k3, step))
        theta = {n: p + step / 6 * (k1[n] + 2 * k2[n] + 2 * k3[n] + k4[n]) for n, p in theta.items()}
    return theta


def test_charges_are_conserved_along_the_gradient_flow(case: Instance) -> None:
    """What moves there are the parameters; charges move by the error of the steps alone, which is of fourth order."""
    action, start = case.action, case.params()
    drifts = []
    for halvings in range(2):
        theta = flowed(case, 0.03 / 2**halvings, 8 * 2**halvings)
        assert float((flat(theta, start) - flat(start, start)).norm()) > 1e-2
        drifts.append((action.charge(theta) - action.charge(start)).abs() / action.scale(start, start))
    coarse, fine = drifts
    assert bool((fine <= coarse / 12 + 1e-14).all())
    assert bool((fine < 1e-7).all())


def test_directions(case: Instance) -> None:
    """Moments, sides and inertia of the symmetric generators, against ⟨Xa, b⟩ and ⟨Xθ, Xθ⟩ written out."""
    action, a, b = case.action.centred, case.params(1), random_like(case.params(), 2)
    moment, (grown, shrunk) = action.moment(a, b), action.sides(a)
    for direction in one_by_one(moment):
        weights = action.stretch(direction)
        left = flat(action.generator(a, weights), a) @ flat(b, a)
        right = flat(action.generator(b, weights), a) @ flat(a, a)
        assert float((moment * direction).sum()) == pytest.approx(float(left + right) / 2, rel=1e-11, abs=1e-11)
        xi = generator(action, a, weights)
        inertia = action.inertia(a)
        form = (
            (direction @ inertia @ direction).diagonal(dim1=1, dim2=2) if moment.ndim == 3 else direction**2 * inertia
        )
        assert float(form.sum()) == pytest.approx(float(xi @ xi), rel=1e-11)
    assert torch.allclose(grown - shrunk, action.moment(a, a), rtol=1e-11, atol=1e-11)
    for side in (grown, shrunk):
        values = torch.linalg.eigvalsh(side) if side.ndim == 3 else side
        assert bool((values >= -1e-10).all())


def one_by_one(moment: Tensor) -> list[Tensor]:
    """A direction for each charge: a number, or a symmetric matrix with one or two entries."""
    if moment.ndim < 3:
        return list(torch.eye(len(moment), dtype=torch.float64))
    out = []
    for block, i, j in product(range(len(moment)), range(moment.shape[1]), range(moment.shape[1])):
        direction = torch.zeros_like(moment)
        direction[block, i, j] = direction[block, j, i] = 1.0
        out += [direction] if i <= j else []
    return out


def test_elements_moved(case: Instance) -> None:
    """As many as a unit generator is nonzero on, for actions that move whole slices."""
    action, params = case.action, case.params()
    counts = action.elements_moved()
    assert bool(counts) == ({form for form, _ in units(action)} <= {"constant", "diagonal"})
    for charge, (_, weights) in enumerate(units(action) if counts else ()):
        xi = action.generator(params, weights)
        assert {n: int(c[charge]) for n, c in counts.items()} == {n: int((x != 0).sum()) for n, x in xi.items()}


def test_read_back_from_plain_data(case: Instance) -> None:
    action, params, weights = case.action, case.params(), weights_of(case.action, 1)
    data = json.loads(json.dumps(action.to_dict()))
    again = type(action).from_dict(data)  # type: ignore[attr-defined]
    assert again.to_dict() == action.to_dict()
    assert (again.parameters, again.inputs, again.charges) == (action.parameters, action.inputs, action.charges)
    if isinstance(action, Own):  # a function is not data
        for refused in (again.generator, again.transform):
            with pytest.raises(ValueError, match="is not stored; give it again"):
                refused(params, weights)
        return
    moved, expected = flow(again, params, weights), flow(action, params, weights)
    assert all(torch.equal(moved[name], expected[name]) for name in params)


def test_precision_is_kept(case: Instance) -> None:
    """Generators and transformed parameters come in the parameters' precision, charges in float64."""
    action, weights = case.action, weights_of(case.action, 1)
    params = {name: p.float() for name, p in case.params().items()}
    moved = flow(action, params, weights)
    assert {t.dtype for t in (*moved.values(), *action.generator(params, weights).values())} == {torch.float32}
    assert {action.pair(params, params).dtype, action.scale(params, params).dtype} == {torch.float64}
    wide = flow(action, {n: p.double() for n, p in params.items()}, weights)
    assert torch.allclose(flat(moved, params), flat(wide, params), rtol=1e-5, atol=1e-5)


def test_weights_as_callers_give_them(case: Instance) -> None:
    """One number for all, the identity's by default; another shape is refused with the one that is needed."""
    action = case.action
    assert action.read_weights(None, CPU).shape == action.weights_shape
    assert torch.equal(action.read_weights(None, CPU), action.read_weights(1.0, CPU))
    given = weights_of(action, 2)
    assert torch.equal(action.read_weights(given, CPU), given)
    assert torch.equal(action.read_weights(0.5, CPU), 0.5 * action.read_weights(None, CPU))
    with pytest.raises(ValueError, match="needed"):
        action.read_weights(torch.zeros(7, 5, 3), CPU)
