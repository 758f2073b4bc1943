"""The changes that rewrites are made of: factors, matrices, permutations, images of biases, constants, copies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from neuralmechanics.rewrite.plan.factor import Factor
from neuralmechanics.rewrite.plan.place import Place
from neuralmechanics.symmetry.families.actions import MapFactor

__all__ = ["AddImage", "Centre", "Copy", "Fill", "Mix", "Multiply", "Permute"]


@dataclass(frozen=True, eq=False)
class Multiply:
    """θ → a (θ + c) - c along ``place``, a one number a channel of each copy, copies first; c the ``origin``."""

    kind: ClassVar[str] = "multiply"
    tensor: str
    place: Place
    by: Factor
    origin: float = 0.0

    @property
    def reads(self) -> tuple[str, ...]:
        """The tensors that the factor is made of."""
        return self.by.reads

    @property
    def axes(self) -> frozenset[int] | None:
        """Those of the place."""
        return self.place.axes

    def apply(self, tensor: Tensor, others: Mapping[str, Tensor]) -> Tensor:
        """a (θ + c) - c."""
        by = self.by.vector(others).to(tensor.device, tensor.dtype).reshape(self.place.copies, self.place.width, 1)
        if not self.origin:
            return self.place.changed(tensor, lambda rows, copy: by[copy] * rows)
        return self.place.changed(tensor, lambda rows, copy: by[copy] * (rows + self.origin) - self.origin)

    def inverse(self) -> Multiply:
        """By one over a."""
        return replace(self, by=self.by.inverse())

    def to_dict(self) -> dict[str, Any]:
        """What is multiplied, where, and by what."""
        about = {"origin": self.origin} if self.origin else {}
        return {"kind": self.kind, "tensor": self.tensor, "axis": self.place.axis, "by": str(self.by)} | about

    def __str__(self) -> str:
        about = f" about {-self.origin:g}" if self.origin else ""
        return f"{self.tensor}: times {self.by} along axis {self.place.axis}{about}"


@dataclass(frozen=True, eq=False)
class Mix:
    """θ → D A D⁻¹ θ along ``place``: a matrix A for each copy or one for all, D the gains of ``dressing``."""

    kind: ClassVar[str] = "mix"
    tensor: str
    place: Place
    matrix: Tensor
    dressing: Factor | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The gains."""
        return () if self.dressing is None else self.dressing.reads

    @property
    def axes(self) -> frozenset[int] | None:
        """Those of the place."""
        return self.place.axes

    def apply(self, tensor: Tensor, others: Mapping[str, Tensor]) -> Tensor:
        """D A D⁻¹ θ."""
        matrix = self.matrix.double()
        if self.dressing is not None:
            gain = self.dressing.vector(others).to(matrix.device)
            if bool((gain == 0).any()):
                raise ValueError(
                    f"{self.dressing} has zeros, through which {self.tensor!r} cannot be mixed: fold first"
                )
            matrix = gain[..., :, None] * matrix.reshape(-1, *matrix.shape[-2:]) / gain[..., None, :]
        matrix = matrix.to(tensor.device, tensor.dtype).reshape(-1, self.place.width, self.place.width)
        return self.place.changed(tensor, lambda rows, copy: matrix[copy if len(matrix) > 1 else 0] @ rows)

    def inverse(self) -> Mix | None:
        """By A⁻¹, where there is one."""
        if float(torch.linalg.cond(self.matrix.double()).max()) > 1e12:
            return None
        return replace(self, matrix=torch.linalg.inv(self.matrix.double()))

    def to_dict(self) -> dict[str, Any]:
        """What is mixed, where, and by how large a matrix."""
        through = {"through": str(self.dressing)} if self.dressing is not None else {}
        shape = list(self.matrix.shape)
        return {"kind": self.kind, "tensor": self.tensor, "axis": self.place.axis, "matrix": shape} | through

    def __str__(self) -> str:
        size = "×".join(map(str, self.matrix.shape))
        through = f" through {self.dressing}" if self.dressing is not None else ""
        each = f" in {self.place.copies} blocks" if self.place.copies > 1 else ""
        return f"{self.tensor}: mixed by a matrix of {size} along axis {self.place.axis}{each}{through}"


@dataclass(frozen=True, eq=False)
class Permute:
    """Channel k becomes what channel permutation[k] was, along ``place``: one permutation for each copy, or for all."""

    kind: ClassVar[str] = "permute"
    tensor: str
    place: Place
    permutation: np.ndarray
    reads: ClassVar[tuple[str, ...]] = ()

    @property
    def axes(self) -> frozenset[int] | None:
        """Those of the place."""
        return self.place.axes

    def apply(self, tensor: Tensor, others: Mapping[str, Tensor]) -> Tensor:
        """The channels in another order."""
        order = torch.as_tensor(self._each, device=tensor.device)
        return self.place.changed(tensor, lambda rows, copy: rows[order[copy if len(order) > 1 else 0]])

    def inverse(self) -> Permute:
        """Back in the old order."""
        return replace(self, permutation=np.argsort(self._each, axis=-1))

    @cached_property
    def _each(self) -> np.ndarray:
        return self.permutation.reshape(-1, self.place.width)

    def to_dict(self) -> dict[str, Any]:
        """What is permuted, and where."""
        return {"kind": self.kind, "tensor": self.tensor, "axis": self.place.axis, "channels": self.place.width}

    def __str__(self) -> str:
        each = f" in each of {self.place.copies} blocks" if self.place.copies > 1 else ""
        return f"{self.tensor}: {self.place.width} channels permuted along axis {self.place.axis}{each}"


@dataclass(frozen=True, eq=False)
class AddImage:
    """b → b + sign · M u: M the product of linear maps, u a vector at positions ``inputs`` of what enters the first."""

    kind: ClassVar[str] = "add"
    tensor: str
    maps: tuple[MapFactor, ...]
    vector: Factor
    inputs: np.ndarray
    sign: float = 1.0
    axes: ClassVar[None] = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The vector and the weights of the maps."""
        return tuple(dict.fromkeys((*self.vector.reads, *(m.view.parameter for m in self.maps))))

    def apply(self, tensor: Tensor, others: Mapping[str, Tensor]) -> Tensor:
        """b + sign · M u."""
        shift = torch.zeros(self.maps[0].inputs, dtype=torch.float64)
        shift = shift.index_add(0, torch.as_tensor(self.inputs), self.vector.vector(others))
        for linear in self.maps:
            matrix = linear.matrix(others)
            shift = matrix @ shift.to(matrix.device)
        return tensor + self.sign * shift.reshape(tensor.shape).to(tensor.device, tensor.dtype)

    def inverse(self) -> AddImage:
        """With the other sign."""
        return replace(self, sign=-self.sign)

    def to_dict(self) -> dict[str, Any]:
        """What is added to what."""
        maps = [m.view.parameter for m in self.maps]
        return {"kind": self.kind, "tensor": self.tensor, "vector": str(self.vector), "maps": maps, "sign": self.sign}

    def __str__(self) -> str:
        product = " · ".join([*(m.view.parameter for m in reversed(self.maps)), str(self.vector)])
        return f"{self.tensor}: {'plus' if self.sign > 0 else 'less'} {product}"


@dataclass(frozen=True, eq=False)
class Fill:
    """θ → value - c at the positions of ``place``, or everywhere; ``signs``: with the sign that θ + c has, 1 for 0."""

    kind: ClassVar[str] = "fill"
    tensor: str
    value: float
    origin: float = 0.0
    signs: bool = False
    place: Place | None = None
    reads: ClassVar[tuple[str, ...]] = ()

    @property
    def axes(self) -> frozenset[int] | None:
        """Those of the place."""
        return frozenset() if self.place is None else self.place.axes

    def apply(self, tensor: Tensor, others: Mapping[str, Tensor]) -> Tensor:
        """The constant, or its sign times it."""
        return self._filled(tensor) if self.place is None else self.place.changed(tensor, lambda r, _: self._filled(r))

    def _filled(self, tensor: Tensor) -> Tensor:
        signs = torch.where(tensor + self.origin < 0, -1.0, 1.0) if self.signs else torch.ones_like(tensor)
        return (self.value * signs - self.origin).to(tensor.dtype)

    def inverse(self) -> None:
        """None: what was there is gone."""

    def to_dict(self) -> dict[str, Any]:
        """The constant."""
        signed = {"signs": True} if self.signs else {}
        return {"kind": self.kind, "tensor": self.tensor, "value": self.value - self.origin} | signed

    def __str__(self) -> str:
        return f"{self.tensor}: set to {'±' if self.signs else ''}{self.value - self.origin:g}"


@dataclass(frozen=True, eq=False)
class Copy:
    """A tensor of its own with the values of ``source``, of which it was another name."""

    kind: ClassVar[str] = "copy"
    tensor: str
    source: str
    axes: ClassVar[None] = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The source."""
        return (self.source,)

    def apply(self, tensor: Tensor, others: Mapping[str, Tensor]) -> Tensor:
        """The values of the source."""
        return others[self.source].to(tensor.device, tensor.dtype)

    def inverse(self) -> None:
        """None: tying two tensors again is right for equal ones alone."""

    def to_dict(self) -> dict[str, Any]:
        """What is copied."""
        return {"kind": self.kind, "tensor": self.tensor, "source": self.source}

    def __str__(self) -> str:
        return f"{self.tensor}: a copy of {self.source}, tied to it no longer"


@dataclass(frozen=True, eq=False)
class Centre:
    """θ → θ less its mean over the channels at ``place``, for each copy."""

    kind: ClassVar[str] = "centre"
    tensor: str
    place: Place
    reads: ClassVar[tuple[str, ...]] = ()

    @property
    def axes(self) -> frozenset[int] | None:
        """Those of the place."""
        return self.place.axes

    def apply(self, tensor: Tensor, others: Mapping[str, Tensor]) -> Tensor:
        """θ - mean."""
        return self.place.changed(tensor, lambda rows, _: rows - rows.mean(0, keepdim=True))

    def inverse(self) -> None:
        """None: the mean is gone."""

    def to_dict(self) -> dict[str, Any]:
        """What is centred, and where."""
        return {"kind": self.kind, "tensor": self.tensor, "axis": self.place.axis}

    def __str__(self) -> str:
        return f"{self.tensor}: less its mean along axis {self.place.axis}"
