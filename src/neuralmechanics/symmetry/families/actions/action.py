"""What a symmetry does to parameters: the interface that every form of symmetry has.

An action is a connected group G that acts on the parameters θ. *Weights* w are coordinates of its Lie algebra: they
pick the generator ξ_w(θ), linear in w. An *element* is a member of G as a reader writes it (a factor, a shift, a
matrix); ``exponential`` takes weights to elements, so that t ↦ ψ(exp(t w), θ) is the orbit with velocity ξ_w.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices import SliceTerm, SliceView
from neuralmechanics.symmetry.families.actions.charge_terms import ChargeTerms
from neuralmechanics.symmetry.families.actions.words import FORMS, Form, PointNeededError, Tensors, accumulate, detached

if TYPE_CHECKING:
    from neuralmechanics.symmetry.families.actions.affine_shift import AffineTerm
    from neuralmechanics.symmetry.families.actions.terms.rotation_terms import RotationTerm

__all__ = ["FORMS", "Action", "Form", "PointNeededError", "Tensors", "accumulate", "detached"]


class Action(Protocol):
    """A group that acts on parameters. Values of its charges and all amounts are float64."""

    linear: ClassVar[bool]
    """Whether generators are ξ = M(θ + c), which makes charges quadratic; else they do not depend on what moves."""
    stretches: ClassVar[bool] = True
    """Whether its symmetric generators are *directions* (see ``moment``), along which orbits can be searched."""
    epithet: ClassVar[str] = ""
    """What tells its families from others of the same kind and parameters."""
    additive: ClassVar[bool] = False
    """Whether elements are vectors, composed by their sum: what they add to parameters is linear in them."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that move."""
        ...

    @property
    def described(self) -> tuple[str, ...]:
        """The same for readers: ``1 + norm.weight`` where it is the sum that is scaled."""
        return self.parameters

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the parameters that enter the generators and do not move."""
        return ()

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """Shape of the weights: one number a generator."""
        ...

    @property
    def charges(self) -> int:
        """Number of conserved quantities."""
        return 0

    @property
    def unfollowed(self) -> str:
        """Why a symmetry that might have had a charge has none; empty for all others."""
        return ""

    @property
    def accuracy(self) -> float:
        """The relative error of finite transformations, beyond rounding."""
        return 0.0

    @property
    def centred(self) -> Action:
        """The action that it is of ``point(θ)``; itself where it acts about zero."""
        return self

    @property
    def signed(self) -> bool:
        """Whether factors may be negative, too."""
        return False

    @property
    def compact(self) -> bool:
        """Whether the group is compact; without ``inputs`` it then moves parameters without changing their length."""
        return False

    @property
    def along_ones(self) -> bool:
        """Whether all that it adds to channels is one and the same for each, so that a centring norm removes it."""
        return False

    @property
    def matrix_group(self) -> str:
        """The group of matrices that acts on its channels, named as those of spaces are; empty where none does."""
        return ""

    @property
    def channels(self) -> int:
        """The number of channels that these matrices mix."""
        return 0

    @property
    def factor_terms(self) -> tuple[SliceTerm, ...]:
        """The exponents S_k of each slice of ``point(θ)``, where elements are factors a: u → Π_k a_k^{S_k} u."""
        return ()

    @property
    def channel_factors(self) -> tuple[SliceTerm, ...]:
        """The same of the part of the group that multiplies channels: diagonal matrices are factors, too."""
        return self.factor_terms

    @property
    def shift_terms(self) -> tuple[SliceTerm, ...]:
        """What an element adds to slices whatever θ is, as coefficients; empty where it adds nothing of that kind."""
        return ()

    @property
    def legs(self) -> tuple[RotationTerm, ...]:
        """Where a matrix stands that is one and the same for whole dimensions; empty where there is no such matrix."""
        return ()

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The planes of two channels that this matrix turns, where it does nothing else."""
        return ()

    @property
    def turns(self) -> int:
        """In how many planes of two channels it turns, each by an angle of its own."""
        return 0

    @property
    def answers(self) -> tuple[AffineTerm, ...]:
        """What biases absorb of it, where it shifts biases in front of linear maps."""
        return ()

    @property
    def moved_slices(self) -> tuple[tuple[SliceView, np.ndarray], ...]:
        """Slices that move and besides which nothing moves; empty where whole parameters do."""
        return ()

    @property
    def gains(self) -> tuple[str, ...]:
        """Gains that its matrices pass, and that turn up in them: D A D⁻¹."""
        return ()

    @property
    def anchors(self) -> tuple[str, ...]:
        """Parameters that tell how far θ has been shifted along its orbit; empty where any that moves does."""
        return ()

    def footing(self, params: Mapping[str, Tensor]) -> tuple[tuple[SliceTerm, ...], Mapping[str, Tensor]]:
        """Slices, and tensors at θ to which elements add what these say: they tell how far θ has been shifted."""
        return self.shift_terms, params

    def origin(self, like: Mapping[str, Tensor]) -> Tensors:
        """c of the parameters among ``like`` that have one, broadcastable to them."""
        return {}

    def point(self, params: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """θ + c, of which generators and charges are functions as ``centred`` says; θ where c is zero."""
        return params

    def read_weights(self, given: float | Tensor | None, device: torch.device) -> Tensor:
        """Weights as a caller may give them: one number for all, ones by default. ValueError for another shape."""
        out = torch.as_tensor(1.0 if given is None else given, dtype=torch.float64, device=device)
        if out.ndim == 0:
            return out.expand(self.weights_shape)
        if out.shape != self.weights_shape:
            raise ValueError(
                f"weights of shape {tuple(out.shape)} given, one number for each of its {self.weights_shape[0]} "
                "generators is needed"
            )
        return out

    def read_element(self, given: float | Tensor, device: torch.device) -> Tensor:
        """A group element as a caller may give it. ValueError for what is no element."""
        return self.read_weights(given, device)

    def with_signs(self) -> Action | None:
        """The same with factors of either sign; None where there are no factors, or none may be negative."""
        return None

    def generator(self, params: Mapping[str, Tensor], weights: Tensor) -> Tensors:
        """ξ_w(θ) of the parameters that move, in their dtype."""
        ...

    def transform(self, params: Mapping[str, Tensor], element: Tensor) -> Tensors:
        """ψ(element, θ): every parameter of ``params``, those that move transformed."""
        ...

    def exponential(self, weights: Tensor) -> Tensor:
        """The element that the one-parameter group of ``weights`` reaches in unit time."""
        return weights

    def inverse(self, element: Tensor) -> Tensor:
        """The element that takes it back."""
        return -element

    def renumbered(self, places: np.ndarray) -> Action | None:
        """Some charges alone: charge c becomes part of ``places[c]``, or is left out; None where none is by itself."""
        return None

    def units(self, form: Form) -> Iterator[Tensor]:
        """Unit weights of the generators of that form; over all forms they are a basis of the algebra."""
        ...

    def random_weights(self, generator: torch.Generator) -> Tensor:
        """Random weights of order one over all generators at once: one test with them tests the whole group.

        Halves and ones of either sign, exact in every precision.
        """
        choice = torch.randint(4, self.weights_shape, generator=generator)
        return torch.tensor([-1.0, -0.5, 0.5, 1.0], dtype=torch.float64)[choice]

    def random_elements(self, amount: float, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        """Random finite elements of size ``amount``, each with what it does to the parameters in one word."""
        ...

    def reach(self, params: Mapping[str, Tensor]) -> float:
        """A time along random weights after which the parameters have moved by their own size."""
        ...

    def charge(self, params: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """The conserved quantities at θ."""
        point = self.point(params)
        return self.pair(point, point)

    def residual(self, gradients: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """⟨g, ξ(θ)⟩ of every charge."""
        return self.pair(gradients, self.point(params))

    def pair(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """⟨a, M b⟩ of every charge, symmetrised in a and b; ⟨a, ξ⟩ where ξ is constant."""
        return torch.zeros(0, dtype=torch.float64)

    def scale(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """The size of ``pair(a, b)`` before anything cancels in it."""
        return torch.zeros(0, dtype=torch.float64)

    def charge_terms(self, offset: int) -> ChargeTerms:
        """The charges, numbered from ``offset``, as parts that can be evaluated beside those of other actions."""
        return ChargeTerms()

    def elements_moved(self) -> Mapping[str, np.ndarray]:
        """How many elements of each parameter every charge moves, where it moves whole slices."""
        return {}

    def adjoint(self, gradients: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor]) -> Tensors:
        """(∂ξ/∂θ)ᵀ g at θ = ``params``; parameters on which ξ does not depend are absent."""
        return {}

    def cotangent(self, gradients: Tensors, element: Tensor, params: Mapping[str, Tensor] | None) -> Tensors:
        """J⁻ᵀ g, J = ∂ψ(element, θ)/∂θ: the gradients after the transformation, all of ``gradients`` being given back.

        At θ = ``params`` where J depends on θ; ``PointNeededError`` where it does and they are not known. Here for
        additive elements: no parameter that moves is read, so that J = 1 + ∂ξ/∂θ and J⁻¹ = 1 - ∂ξ/∂θ.
        """
        if not self.additive:
            raise PointNeededError("start the optimiser anew")
        if params is None:
            raise PointNeededError("give params=")
        back = self.adjoint(gradients, self.read_element(element, element.device), params)
        return gradients | {name: gradients[name] - change for name, change in back.items() if name in gradients}

    def square_cotangent(self, squares: Tensors, element: Tensor) -> Tensors | None:
        """(J∘J)⁻¹ s for a diagonal J, which is how squares of gradients change; None where J mixes entries."""
        return None

    def second_derivative(self, xi: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor]) -> Tensors:
        """∂²ψ/∂t² at the identity of the one-parameter group of ``weights``, of which ``xi`` is the generator at θ."""
        return {}

    def moment(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Float64[Tensor, "*direction"]:
        """μ with ⟨μ, X⟩ = ⟨Xa, b⟩ for every *direction* X, symmetrised in a and b.

        Directions are the generators ξ = Xθ with X symmetric: a number each, or a symmetric matrix a block; none here.
        """
        return torch.zeros(0, dtype=torch.float64)

    def sides(self, params: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What grows and what shrinks along each direction: their difference is the moment at θ."""
        none = torch.zeros(0, dtype=torch.float64)
        return none, none

    def inertia(self, params: Mapping[str, Tensor]) -> Tensor:
        """⟨Xθ, Xθ⟩ of one direction X alone: x² times a number, or tr(X S X) with a matrix S a block."""
        return torch.zeros(0, dtype=torch.float64)

    def stretch(self, direction: Float64[Tensor, "*direction"]) -> Tensor:
        """The weights of a direction."""
        return direction

    def to_dict(self) -> dict[str, Any]:
        """Plain data (JSON): the entries of a family that describe its action; ``action_from_dict`` reads them."""
        ...
