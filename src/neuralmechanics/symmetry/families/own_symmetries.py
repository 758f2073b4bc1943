"""Symmetries of one's own, from a generator ξ(θ) or a finite transformation ψ(θ, a): recognised, and made a family.

What they are decides how far they can be followed: fields that are constant, or proportional to θ (+ c) element by
element, or Mθ with a symmetric M in each parameter have a charge that monitors follow and laws predict; any other is
checked and counted, and has none.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from neuralmechanics.functional.derivatives.higher_derivatives import directional_derivative
from neuralmechanics.symmetry.families.actions import Action, Field, Own
from neuralmechanics.symmetry.families.family import Family, Kind
from neuralmechanics.symmetry.families.own_fields import Probes, called, require_differentiable
from neuralmechanics.symmetry.families.recognition import recognised

__all__ = ["from_generator", "from_transformation"]

_TIMES = (0.3, -0.2)  # of the finite transformation, at which the group's law is held


def from_generator(
    name: str,
    generator: Callable[[dict[str, Tensor]], Mapping[str, Tensor]],
    params: nn.Module | Mapping[str, Tensor],
    *,
    requires: tuple[str, ...] = (),
) -> Family:
    """The one-parameter family of symmetries with the generator ξ(θ): θ' = ξ(θ).

    ``generator`` takes named tensors (in float64) and returns the steps of those that move, in torch operations, each
    of its parameter's shape. ``params`` are the parameters near which it is looked at: the model, or its tensors.
    ``requires``: in words, what it holds for. ``check_symmetries(Symmetries((family,)), …)`` asks whether it leaves the
    loss unchanged; ``found.joined(family)`` puts it beside symmetries that were found, to be monitored and counted.

    Its kind says how far it is followed. ``translation`` (ξ constant), ``scale`` and ``rescale`` (each element of θ, or
    of θ + c, times a number), ``linear`` (Mθ, M symmetric in each parameter): charge, monitor, all laws. Any other
    field has no charge; ``family.action.unfollowed`` says why.

    Raises ValueError in one line for a field that names unknown parameters, has other shapes, is not finite or zero, or
    is not differentiated by torch.

    >>> params = {"a": torch.ones(3, 2), "b": torch.ones(4, 3)}
    >>> from_generator("both", lambda p: {"a": p["a"], "b": -p["b"]}, params)
    Family(rescale, 'both', 1 charges, 1 generators, exact)
    >>> from_generator("turn", lambda p: {"a": torch.stack([-p["a"][:, 1], p["a"][:, 0]], 1)}, params)
    Family(linear, 'turn', 0 charges, 1 generators, exact)
    """
    probes = Probes(_tensors(params), name)

    def field(p: dict[str, Tensor]) -> dict[str, Tensor]:
        return called(generator, p, name)

    return _family(name, field, None, probes, requires)


def from_transformation(
    name: str,
    transformation: Callable[[dict[str, Tensor], Tensor], Mapping[str, Tensor]],
    params: nn.Module | Mapping[str, Tensor],
    *,
    identity: float = 0.0,
    requires: tuple[str, ...] = (),
) -> Family:
    """The one-parameter family of symmetries θ → ψ(θ, a), with ψ(θ, ``identity``) = θ.

    ``transformation`` takes named tensors (in float64) and a, a tensor of one number, and returns those that move, in
    torch operations. Amounts add up, ψ(ψ(θ, a), b) = ψ(θ, a + b), where ``identity`` is 0, and multiply where it is 1.
    The generator is ∂ψ/∂a at the identity; kinds and refusals are those of ``from_generator``, and one more for a ψ
    that is no group in a.

    >>> params = {"a": torch.ones(3, 2), "b": torch.ones(4, 3)}
    >>> from_transformation("both", lambda p, a: {"a": a * p["a"], "b": p["b"] / a}, params, identity=1.0)
    Family(rescale, 'both', 1 charges, 1 generators, exact)
    """
    if identity not in (0.0, 1.0):
        raise ValueError(f"symmetry {name!r}: identity={identity}; 0 where amounts add up, 1 where they multiply")
    probes = Probes(_tensors(params), name)

    def finite(p: dict[str, Tensor], time: Tensor) -> dict[str, Tensor]:
        amount = time.exp() if identity else time
        return p | called(lambda q: transformation(q, amount), p, name)

    def field(p: dict[str, Tensor]) -> dict[str, Tensor]:
        return _velocity(finite, p)

    _require_group(name, finite, field, probes)
    return _family(name, field, finite, probes, requires)


def _velocity(
    finite: Callable[[dict[str, Tensor], Tensor], dict[str, Tensor]], p: dict[str, Tensor]
) -> dict[str, Tensor]:
    """∂ψ/∂t at t = 0, differentiable in θ: the derivative of ⟨u, ψ⟩ by t is ⟨u, ∂ψ/∂t⟩ for every u."""
    names = tuple(p)

    def moved(time: Tensor) -> tuple[Tensor, ...]:
        after = finite(p, time)
        return tuple(after[name] for name in names)

    like = next(iter(p.values()))
    zero, one = (torch.full((), value, dtype=like.dtype, device=like.device) for value in (0.0, 1.0))
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numbers made of a: their derivative is missed, and that is found out
        steps = directional_derivative(moved, [zero], [one], graph=True)
    return dict(zip(names, steps, strict=True))


def _family(
    name: str, field: Field, finite: Callable[[dict[str, Tensor], Tensor], dict[str, Tensor]] | None, probes: Probes,
    requires: tuple[str, ...],
) -> Family:  # fmt: skip
    moved, read = probes.names(field)
    require_differentiable(field, probes, (*moved, *read))
    found = recognised(field, probes, moved, read)
    action: Action
    kind: Kind
    if found.action is not None:
        action, kind = found.action, found.kind
        if finite is not None:
            _require_same(name, action, finite, probes)
    else:
        action = Own(moved, read, found.form, found.unfollowed, field, finite)
        kind = found.kind
    return Family(kind, name, (name,) if action.charges else (), action, requires=requires)


def _require_group(
    name: str, finite: Callable[[dict[str, Tensor], Tensor], dict[str, Tensor]], field: Field, probes: Probes
) -> None:
    """ValueError where ψ(·, 0) is not the identity, amounts do not add up, or torch does not see a."""
    point = probes.near[0]
    s, t = (torch.full((), value, dtype=torch.float64, device=probes.device) for value in _TIMES)
    with torch.no_grad():
        same, once, whole = finite(point, 0 * s), finite(finite(point, s), t), finite(point, s + t)
        step = 1e-5
        ahead, behind = finite(point, 0 * s + step), finite(point, 0 * s - step)
    size = probes.size(point)
    if probes.distance(same, point) > 1e-12 * size:
        raise ValueError(f"symmetry {name!r} moves θ at the identity; state identity=0 or identity=1, or mend ψ")
    if probes.distance(once, whole) > 1e-9 * size:
        raise ValueError(
            f"symmetry {name!r} is no one-parameter group: amounts that are applied one after the other do not "
            "combine to one; choose a so that they add up (identity=0) or multiply (identity=1)"
        )
    slope = {n: (ahead[n] - behind[n]) / (2 * step) for n in point}
    if probes.distance(field(point), slope) > 1e-5 * (probes.distance(slope, {}) + 1e-5 * size):
        raise ValueError(
            f"symmetry {name!r}: torch cannot differentiate it by a; use torch.exp for math.exp, and so on"
        )


def _require_same(
    name: str, action: Action, finite: Callable[[dict[str, Tensor], Tensor], dict[str, Tensor]], probes: Probes
) -> None:
    """ValueError where the flow of the generator is another than the given transformation."""
    point = probes.near[0]
    weights = torch.full((1,), _TIMES[0], dtype=torch.float64, device=probes.device)
    with torch.no_grad():
        given = finite(point, weights[0])
    if probes.distance(action.transform(point, action.exponential(weights)), given) > 1e-9 * probes.size(point):
        raise ValueError(f"symmetry {name!r} is not the flow of its own generator; mend ψ so that amounts add up")


def _tensors(params: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    return dict(params.named_parameters()) if isinstance(params, nn.Module) else dict(params)
