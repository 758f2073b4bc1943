"""The interface of interpreters: for each primitive one method, from values of the interpreter's own to another."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol, TypeVar

import numpy as np

from neuralmechanics.symmetry.families.family import Breaking
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.views import Take, View

__all__ = ["Domain"]

V = TypeVar("V")


class Domain(Protocol[V]):
    """An abstract interpretation of the primitives.

    ``cause`` is the number of the operation of the model that the present instruction comes from, ``position`` that of
    the instruction in the program.
    """

    cause: int
    position: int

    def constant(self, shape: Sequence[int]) -> V:
        """Data, buffers, numbers: nothing that a symmetry moves."""

    def parameter(self, name: str) -> V:
        """The parameter itself."""

    def unread(self, name: str, view: Take) -> None:
        """No output depends on these entries of the parameter."""

    def view(self, x: V, view: View) -> V:
        """A rearrangement."""

    def cat(self, xs: Sequence[V], dim: int) -> V:
        """Concatenation along ``dim``."""

    def add(self, x: V, y: V, scale: float = 1.0) -> V:
        """x + scale·y, broadcast."""

    def add_number(self, x: V, number: float, broken_by: Breaking | None = None) -> V:
        """x + number; a small one is a stabilising constant that breaks a scale symmetry by a measurable amount."""

    def scaled(self, x: V, factor: float) -> V:
        """factor·x."""

    def mul(self, x: V, y: V) -> V:
        """x·y elementwise, broadcast."""

    def power(self, x: V, exponent: float) -> V:
        """x to a fixed real power, elementwise (of |x| or of a nonnegative x where that is what makes sense)."""

    def homogeneous(self, x: V) -> V:
        """An elementwise function with f(a·x) = a·f(x) for a > 0 that is not linear (ReLU, |x|)."""

    def nonlinear(self, *xs: V) -> V:
        """Any other elementwise function of the broadcast inputs."""

    def restricted(self, x: V, kept: np.ndarray) -> V:
        """x, of which all readers multiply the entries that are not ``kept`` by zero."""

    def larger(self, x: V, y: V) -> V:
        """The elementwise maximum or minimum of two tensors."""

    def noise(self, x: V) -> V:
        """x times a random mask (dropout)."""

    def contract(self, x: V, y: V, how: Contraction) -> V:
        """A sum of products."""

    def reduce(self, x: V, dims: Sequence[int], keepdim: bool, mean: bool) -> V:
        """Sum or mean over ``dims``."""

    def extremum(self, x: V, dims: Sequence[int], keepdim: bool) -> V:
        """Maximum or minimum over ``dims``."""

    def pool(
        self, x: V, dims: Sequence[int], shape: Sequence[int], linear: bool, keeps_constants: bool, how: Hashable
    ) -> V:
        """Pooling along ``dims`` (linear: averages; else maxima) to the given output shape.

        ``how`` names the function: two poolings of equal shapes with equal names do the same.
        """

    def normalise(self, x: V, dims: Sequence[int], center: bool, broken_by: Breaking | None) -> V:
        """x divided by its size over ``dims`` (after removing its mean there when ``center``)."""

    def softmax(self, x: V, dim: int, log: bool) -> V:
        """Softmax along ``dim``, or its ``log``: invariant to what is constant along it."""

    def gather(self, x: V, dim: int, index_shape: Sequence[int], index: Hashable) -> V:
        """Entries along ``dim`` picked by data-dependent indices; the index dimensions take the place of ``dim``."""

    def select(self, x: V, y: V, shape: Sequence[int]) -> V:
        """x or y, elementwise, by a mask that no parameter moves."""

    def fix(self, *xs: V) -> None:
        """The inputs may not change at all: outputs, and what decides which entries are read."""

    def masked(self, x: V, number: float, shape: Sequence[int]) -> V:
        """x with some entries replaced by a number, by a mask that no parameter moves."""

    def zero_padded(self, x: V, dim: int, before: int, after: int) -> V:
        """x with zeros around it along ``dim``."""

    def resized(self, x: V, shape: Sequence[int]) -> V:
        """x as a tensor of another size along dimensions that carry no label of their own."""

    def deviation(self, x: V, dims: Sequence[int], keepdim: bool) -> V:
        """The standard deviation over ``dims``."""

    def positions(self, x: V, dims: Sequence[int], keepdim: bool) -> V:
        """Where the extremum over ``dims`` stands."""

    def spread_along(self, x: V, dim: int, apart: Sequence[int] = ()) -> V:
        """Entries of x along ``dim`` in data-dependent places, others for each entry along ``apart``."""

    def placed(self, x: V | None, source: V, dim: int, shape: Sequence[int], apart: Sequence[int] = ()) -> V:
        """``source`` put into, or added to, data-dependent places of x (None: zeros) along ``dim``.

        The places differ from one entry along ``apart`` to the next.
        """

    def paired(self, x: V, first: Sequence[int], second: Sequence[int]) -> None:
        """Channels ``first`` and ``second`` along the last dimension are the parts of complex numbers."""
