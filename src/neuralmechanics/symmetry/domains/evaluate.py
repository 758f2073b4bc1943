"""The program on numbers: every primitive executed on tensors, so that what rules write can be held against torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.contraction import Window
from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape
from neuralmechanics.symmetry.program.interpret import interpret
from neuralmechanics.symmetry.program.program import Instruction, Location, Program

__all__ = ["Evaluate", "Lost", "NotExecutableError", "evaluated", "outputs"]


class NotExecutableError(RuntimeError):
    """An instruction that does not say what it computes: its place, and what is missing."""


@dataclass(frozen=True)
class Lost:
    """What cannot be computed, and why; what is made of it is lost, too."""

    why: str


@dataclass(eq=False)
class Evaluate:
    """Answers every instruction with a tensor.

    ``parameters`` and ``data`` (by the names of the captured graph's operations: inputs, indices, masks, and what the
    model computes without parameters) are what the program reads. ``values`` holds each result by its index, ``fixed``
    what each operation fixes.
    """

    parameters: Mapping[str, Tensor]
    data: Mapping[str, Any]
    cause: int = 0
    values: dict[int, Tensor | Lost] = field(default_factory=dict)
    fixed: list[tuple[Location, tuple[Tensor | Lost, ...]]] = field(default_factory=list)

    def step(self, instruction: Instruction, *xs: Tensor | Lost) -> Tensor | Lost | None:
        """The value of one instruction."""
        if isinstance(instruction.primitive, p.Fix):
            self.fixed.append((instruction.cause, xs))
        if instruction.result is None:
            return None
        lost = next((x for x in xs if isinstance(x, Lost)), None)
        out = self._executed(instruction, *xs) if lost is None else lost  # type: ignore[arg-type]
        self.values[instruction.result.index] = out
        return out

    def _executed(self, instruction: Instruction, *xs: Tensor) -> Tensor | Lost:
        try:
            out = self._computed(instruction, *xs)
        except NotExecutableError as error:
            return Lost(str(error))
        expected = instruction.result.shape if instruction.result is not None else None
        if tuple(out.shape) != expected:
            raise ValueError(
                f"{instruction.primitive} of {instruction.cause} gives shape {tuple(out.shape)} where the program "
                f"says {expected}"
            )
        return out

    def _computed(self, instruction: Instruction, *xs: Tensor) -> Tensor:
        primitive = instruction.primitive
        if isinstance(primitive, p.Parameter):
            return self.parameters[primitive.name]
        if isinstance(primitive, p.Constant) and primitive.number is not None and primitive.function is None:
            return torch.full(primitive.shape, primitive.number, dtype=torch.float64)
        function: Function | None = getattr(primitive, "function", None)
        if isinstance(primitive, p.Constant) and function is not None:
            return self._applied(instruction, function)  # whatever it was computed from
        if isinstance(primitive, p.Gather) and function is not None:
            return _gathered(primitive, xs[0], self._applied(instruction, function))
        if function is not None:
            return self._applied(instruction, function, *xs)
        meaning = _MEANINGS.get(type(primitive))
        if meaning is None:
            raise NotExecutableError(f"{type(primitive).__name__} of {instruction.cause} does not say what it computes")
        return meaning(primitive, *xs)

    def _applied(self, instruction: Instruction, function: Function, *xs: Tensor) -> Tensor:
        if missing := [name for name in function.data if name not in self.data]:
            raise NotExecutableError(f"{instruction.cause} reads {', '.join(missing)}, which no data are given for")
        out: Tensor = function.apply(*xs, *(self.data[name] for name in function.data))
        return out


def evaluated(program: Program, parameters: Mapping[str, Tensor], data: Mapping[str, Any]) -> Evaluate:
    """The program executed."""
    evaluate = Evaluate(parameters, data)
    interpret(program, evaluate, evaluate.step)  # type: ignore[arg-type]
    return evaluate


def outputs(program: Program, parameters: Mapping[str, Tensor], data: Mapping[str, Any]) -> list[Tensor]:
    """What the program computes: the values that its last operation, the end of the graph, fixes.

    Raises ``NotExecutableError`` where one of them cannot be computed.
    """
    evaluate = evaluated(program, parameters, data)
    end = max((where.number for where, _ in evaluate.fixed), default=-1)
    found = []
    for x in (x for where, xs in evaluate.fixed if where.number == end for x in xs):
        if isinstance(x, Lost):
            raise NotExecutableError(x.why)
        found.append(x)
    return found


# --- what each primitive means --------------------------------------------------------------------------------------


def _rearranged(primitive: p.Rearrange, x: Tensor) -> Tensor:
    view = primitive.view
    if isinstance(view, Reshape):
        return x.reshape(view.shape)
    if isinstance(view, Permute):
        return x.permute(view.order)
    if isinstance(view, Expand):
        return x.expand(view.shape)
    return x.index_select(view.dim, torch.tensor(view.positions, dtype=torch.int64, device=x.device))


def _gathered(primitive: p.Gather, x: Tensor, places: Tensor) -> Tensor:
    """Entries of x along one dimension, at the places that the index says."""
    dim = primitive.dim % x.ndim
    picked = x.index_select(dim, places.reshape(-1))
    return picked.reshape((*x.shape[:dim], *primitive.index_shape, *x.shape[dim + 1 :]))


def _padded(primitive: p.Pad, x: Tensor) -> Tensor:
    dim = primitive.dim % x.ndim
    shapes = [(*x.shape[:dim], n, *x.shape[dim + 1 :]) for n in (primitive.before, primitive.after)]
    before, after = (x.new_zeros(shape) for shape in shapes)
    return torch.cat([before, x, after], dim)


def _contracted(primitive: p.Contract, x: Tensor, y: Tensor) -> Tensor:
    """A sum of products by einsum; a window is one more factor, the zeros and ones of which entries meet."""
    how = primitive.how
    kind = torch.promote_types(x.dtype, y.dtype)
    factors, terms = [x.to(kind), y.to(kind)], [how.x, how.y]
    sizes = how.sizes(x.shape, y.shape)
    for window in how.windows:
        factors.append(met(window, sizes).to(kind))
        terms.append(window.x + window.kernel + window.out)
    # Expanded first: a factor of one entry along a summed letter counts once for each entry of the other.
    full = [f.expand([sizes[letter] for letter in term]) for f, term in zip(factors, terms, strict=True)]
    out: Tensor = torch.einsum(f"{','.join(terms)}->{how.out}", *full).expand(how.output_shape(x.shape, y.shape))
    return out


def met(window: Window, sizes: Mapping[str, int]) -> Tensor:
    """[entry of x, entry of the kernel, entry of the output]: one where they meet in a convolution."""
    if not isinstance(window.geometry, tuple) or len(window.geometry) != 5:
        raise NotExecutableError(f"the geometry {window.geometry!r} of a window")
    transposed, stride, padding, dilation, _ = window.geometry
    # An odd number of zeros: torch puts the smaller half in front.
    padding = padding[1] // 2 if isinstance(padding, tuple) else padding
    here, kernel, out = (torch.arange(sizes[letter]) for letter in (window.x, window.kernel, window.out))
    one, other = (here[:, None, None], out) if transposed else (out, here[:, None, None])
    meeting: Tensor = one * stride + kernel[:, None] * dilation - padding == other
    return meeting.double()


def _reduced(primitive: p.Reduce, x: Tensor) -> Tensor:
    # torch takes no dimensions for all of them.
    if not primitive.dims:
        return x
    out: Tensor = (torch.mean if primitive.mean else torch.sum)(x, primitive.dims, primitive.keepdim)
    return out


def _extreme(primitive: p.Extremum, x: Tensor) -> Tensor:
    return (torch.amax if primitive.largest else torch.amin)(x, primitive.dims, primitive.keepdim)


def _deviation(primitive: p.Deviation, x: Tensor) -> Tensor:
    return torch.std(x, primitive.dims, correction=primitive.correction, keepdim=primitive.keepdim)


def _normalised(primitive: p.Normalise, x: Tensor) -> Tensor:
    dims = primitive.dims
    centred = x - x.mean(dims, keepdim=True) if primitive.center else x
    square = (torch.mean if primitive.mean else torch.sum)(centred * centred, dims, keepdim=True)
    return centred / (square + (primitive.broken_by.value if primitive.broken_by else 0.0)).sqrt()


_MEANINGS: dict[type, Callable[..., Tensor]] = {
    p.Rearrange: _rearranged,
    p.Concatenate: lambda primitive, *xs: torch.cat(xs, primitive.dim),
    p.Pad: _padded,
    p.Spread: lambda _, x: x,
    p.Add: lambda primitive, x, y: x + primitive.scale * y if primitive.scale != 1 else x + y,
    p.AddNumber: lambda primitive, x: x + primitive.number,
    p.Scale: lambda primitive, x: x * primitive.factor,
    p.Multiply: lambda _, x, y: x * y,
    p.Restrict: lambda _, x: x,  # what it leaves out, its readers multiply by zero
    p.Power: lambda primitive, x: x**primitive.exponent,
    p.Exponential: lambda _, x: x.exp(),
    p.Logarithm: lambda _, x: x.log(),
    p.Maximum: lambda primitive, x, y: (torch.maximum if primitive.largest else torch.minimum)(x, y),
    p.Contract: _contracted,
    p.Reduce: _reduced,
    p.Extremum: _extreme,
    p.Deviation: _deviation,
    p.Normalise: _normalised,
    p.Softmax: lambda primitive, x: (torch.log_softmax if primitive.log else torch.softmax)(x, primitive.dim),
}
