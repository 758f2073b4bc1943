"""A family of symmetries: a name, what breaks it, and one action, which knows how parameters move."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.symmetry.families.actions import FORMS, Action, BlockLabels, Form, action_from_dict, action_to_dict
from neuralmechanics.symmetry.families.breaking import Breaking
from neuralmechanics.symmetry.families.former_names import FORMER, former_parts

__all__ = ["KINDS", "Breaking", "Family", "Kind"]

Kind = Literal["translation", "scale", "rescale", "linear", "affine", "nonlinear"]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True, eq=False)
class Family:
    """Symmetries of one kind that share tensors (all channels of one layer).

    ``action`` is how they move parameters; ``labels`` name its charges, one text each. ``requires`` names what the
    family holds for (training mode, the captured branch…). ``shapes`` are those of the parameters that it moves, where
    they are known.
    """

    kind: Kind
    name: str
    labels: Sequence[str]
    action: Action
    broken_by: tuple[Breaking, ...] = ()
    requires: tuple[str, ...] = ()
    layer: str = ""
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"family {self.name!r} is of kind {self.kind!r}, which there is not: {', '.join(KINDS)}")
        if not self.parameters:
            raise ValueError(f"family {self.name!r} moves no parameter")
        # The kind decides how the family is read back, and by which law its charges are followed.
        if self.charges and (self.kind == "translation") == self.quadratic:
            raise ValueError(
                f"family {self.name!r} is of kind {self.kind!r}, and its action is "
                f"{'proportional to' if self.quadratic else 'a shift of'} the parameters; translations are the shifts"
            )
        if self.charges and len(self.labels) != self.charges:
            raise ValueError(
                f"family {self.name!r}: {len(self.labels)} labels given for {self.charges} charges; give one a charge"
            )

    @property
    def charges(self) -> int:
        """Number of conserved quantities (an affine symmetry is a constraint and has none)."""
        return self.action.charges

    @cached_property
    def size(self) -> int:
        """Number of generators."""
        return math.prod(self.generator_shape)

    @property
    def generator_shape(self) -> tuple[int, ...]:
        """Shape of the weights that pick a generator: a number each, or a matrix or (real, imaginary) a block."""
        return self.action.weights_shape

    @property
    def exact(self) -> bool:
        """Whether no constant breaks the symmetry."""
        return not self.broken_by

    @property
    def quadratic(self) -> bool:
        """Whether the charges are quadratic in the parameters (all but shifts)."""
        return self.action.linear

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that the family moves."""
        return self.action.parameters

    def pair(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """⟨a, M b⟩ of every charge (symmetrised), or ⟨a, 1_A⟩ for translations."""
        self._require_named(a)
        self._require_named(b)
        return self.action.pair(a, b)

    def charge(self, params: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """The conserved quantities at ``params``, in float64 (no factor ½)."""
        self._require_named(params)
        return self.action.charge(params)

    def _require_named(self, params: Mapping[str, Tensor]) -> None:
        """TypeError where these are no tensors by name; ValueError where one is missing, or of another shape."""
        if not isinstance(params, Mapping):
            raise TypeError(
                f"family {self.name!r} is asked at a {type(params).__name__}; give tensors by name, such as "
                "dict(model.named_parameters())"
            )
        missing = [name for name in self.parameters if name not in params]
        if missing:
            raise ValueError(
                f"family {self.name!r} moves {missing[0]!r}, which is not given; give dict(model.named_parameters())"
            )
        # A transposed tensor has as many elements, and its slices would be others than those that were found.
        for name, shape in self.shapes.items():
            if tuple(params[name].shape) != tuple(shape):
                raise ValueError(
                    f"{name!r} has the shape {tuple(params[name].shape)}, and had {tuple(shape)} when family "
                    f"{self.name!r} was found; give the parameters of that model, or find its symmetries anew"
                )

    def residual(self, gradients: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """⟨g, ξ⟩ of every charge at ``params``: 0 to rounding where the symmetry is exact."""
        self._require_named(gradients)
        self._require_named(params)
        return self.action.residual(gradients, params)

    def charge_matrix(self, params: Mapping[str, Tensor]) -> Float64[Tensor, "blocks width width"]:
        """The symmetric charge matrices Σ ± A Aᵀ of a linear family."""
        self._require_named(params)
        point = self.action.point(params)
        moment = self.action.moment(point, point)
        if moment.ndim < 3:
            raise ValueError(f"family {self.name!r} is of kind {self.kind}: only linear blocks have a charge matrix")
        return moment

    def generator(self, params: Mapping[str, Tensor], weights: Tensor | None = None) -> dict[str, Tensor]:
        """ξ(θ) = ∂ψ/∂a at the identity, weighted over the family's generators, in the parameters' dtype.

        ``weights`` has one entry a generator, shape ``generator_shape``, by default ones; for linear blocks it is a
        matrix a block, by default the identity. Parameters that the family does not move are absent.
        """
        given = self._read(self.action.read_weights, weights, params)
        return self.action.generator(params, given)

    def transform(self, params: Mapping[str, Tensor], a: float | Tensor) -> dict[str, Tensor]:
        """ψ(θ, a): the finite transformation, as a new mapping with every parameter of ``params``.

        ``a`` is a number or a tensor [size]: what is added, for translation and affine (identity 0); the factor, for
        scale and rescale (identity 1), raised to each element's exponent, positive unless ``action.signed``: a gain of
        -3 between linear maps may be folded to 1. For linear blocks it is A, of shape [blocks, width, width] or [width,
        width], or a factor; for complex pairs (real, imaginary) of a factor; for rotations and shears the weights
        [size] of the generator that is followed for unit time (identity 0); for rotations also the matrix itself, of
        shape [width, width]. Matrices may have a negative determinant.
        """
        element = self._read(self.action.read_element, a, params)
        return self.action.transform(params, element)

    def flow(self, params: Mapping[str, Tensor], weights: Tensor, time: float = 1.0) -> dict[str, Tensor]:
        """exp(t Σ w_c M_c) θ: the orbit through θ whose velocity at t = 0 is ``generator(params, weights)``."""
        given = self._read(self.action.read_weights, time * weights, params)
        return self.action.transform(params, self.action.exponential(given))

    def adjoint(
        self, gradients: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """(∂ξ/∂θ)ᵀ g at θ = ``params``; parameters on which ξ does not depend are absent."""
        return self.action.adjoint(gradients, self._read(self.action.read_weights, weights, params), params)

    def second_derivative(
        self, xi: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """∂²ψ/∂t² at the identity of the one-parameter group of ``weights``, of which ``xi`` is the generator at θ."""
        return self.action.second_derivative(xi, self._read(self.action.read_weights, weights, params), params)

    def units(self) -> Iterator[tuple[Form, Tensor]]:
        """Unit weights of a basis of the generators, each with its form as a function of the parameters."""
        return ((form, weights) for form in FORMS for weights in self.action.units(form))

    def to_dict(self) -> dict[str, Any]:
        """Plain data (JSON) from which ``from_dict`` builds the same family."""
        head = {"kind": self.kind, "name": self.name, "labels": _labels_to(self.labels)}
        tail = {"broken_by": [asdict(b) for b in self.broken_by], "requires": list(self.requires), "layer": self.layer}
        return head | action_to_dict(self.action) | tail

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Family:
        """The family that was written."""
        return cls(
            kind=data["kind"],
            name=data["name"],
            labels=_labels_from(data["labels"]),
            action=action_from_dict(data),
            broken_by=tuple(Breaking(**b) for b in data["broken_by"]),
            requires=tuple(data["requires"]),
            layer=data["layer"],
        )

    def _read(
        self,
        reader: Callable[[Any, torch.device], Tensor],
        given: float | Tensor | None,
        params: Mapping[str, Tensor],
    ) -> Tensor:
        """What a caller gave, as the action takes it; an error names the family."""
        self._require_named(params)
        try:
            return reader(given, params[self.parameters[0]].device)
        except ValueError as error:
            raise ValueError(f"family {self.name!r}: {error}") from None

    if not TYPE_CHECKING:  # names that no longer exist are errors to a type checker

        def __getattr__(self, name: str) -> Any:
            if name not in FORMER:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            warnings.warn(f"Family.{name} is now a part of Family.action", DeprecationWarning, stacklevel=2)
            return former_parts(self.action)[name]

    def __repr__(self) -> str:
        how = "exact" if self.exact else "broken by " + ", ".join(map(str, self.broken_by))
        return f"Family({self.kind}, {self.name!r}, {self.charges} charges, {self.size} generators, {how})"

    def _repr_html_(self) -> str:
        told = {
            "kind": self.kind,
            "charges": f"{self.charges}",
            "generators": f"{self.size}",
            "holds": "exactly" if self.exact else "broken by " + ", ".join(map(str, self.broken_by)),
            "requires": ", ".join(self.requires) or "nothing",
            "moves": ", ".join(self.parameters),
        }
        rows = "".join(f"<tr><th>{name}</th><td>{escape(text)}</td></tr>" for name, text in told.items())
        return f"<p><b>{escape(self.name)}</b></p><table><tbody>{rows}</tbody></table>"


def _labels_to(labels: Sequence[str]) -> Any:
    return {"names": list(labels.names), "width": labels.width} if isinstance(labels, BlockLabels) else list(labels)


def _labels_from(data: Any) -> Sequence[str]:
    return BlockLabels(data["names"], data["width"]) if isinstance(data, Mapping) else tuple(data)
