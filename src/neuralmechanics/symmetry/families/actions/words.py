"""Words of all actions: tensors by name, the forms of generators, what is raised where a point is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from torch import Tensor

__all__ = ["FORMS", "Form", "PointNeededError", "Tensors", "accumulate", "detached"]


Tensors = dict[str, Tensor]


Form = Literal["constant", "diagonal", "symmetric", "antisymmetric", "other"]


"""How a generator depends on θ: not at all, or as Mθ with M diagonal, symmetric, antisymmetric; "other": none of these.

The first three are gradients of a charge; an antisymmetric M conserves nothing under gradient flow."""


FORMS: tuple[Form, ...] = get_args(Form)


class PointNeededError(ValueError):
    """Gradients cannot be carried along without the parameters; the text says what to do."""


def accumulate(out: Tensors, name: str, step: Tensor) -> None:
    """out[name] += step, where nothing may be there yet."""
    out[name] = out[name] + step if name in out else step


def detached(params: Mapping[str, Tensor], names: Sequence[str]) -> Tensors:
    """Those parameters, cut off from any graph."""
    return {name: params[name].detach() for name in names}
