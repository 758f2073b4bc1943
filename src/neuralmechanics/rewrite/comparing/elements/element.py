"""An element of the whole symmetry group of a model, over all its spaces and families."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from neuralmechanics.rewrite.comparing.elements.joining import joined
from neuralmechanics.rewrite.comparing.elements.steps import Step

__all__ = ["Element"]


@dataclass(frozen=True)
class Element:
    """A product of steps, the first applied first: each an element of one space's group, or of one family's.

    >>> import torch
    >>> params = {"w": torch.ones(2)}
    >>> Element().transform(params)["w"].tolist(), Element().summary()
    ([1.0, 1.0], 'the identity')
    """

    steps: tuple[Step, ...] = ()

    def transform(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """g·θ as a new mapping: computed in float64, returned in the dtypes of ``params``."""
        out = {name: value.detach() for name, value in params.items()}
        moved = {name for step in self.steps for name in step.parameters if name in out}
        wide = out | {name: out[name].double() for name in moved}
        for step in self.steps:
            wide = step.transform(wide)
        return out | {name: wide[name].to(out[name].dtype) for name in moved}

    def inverse(self) -> Element:
        """g⁻¹: the steps undone, the last one first."""
        return Element(tuple(undone for step in reversed(self.steps) for undone in step.inverse()))

    def compose(self, first: Element) -> Element:
        """g·h: ``first`` and then this element; steps of one kind that meet become one, or none where they cancel.

        >>> Element().compose(Element()) == Element()
        True
        """
        return Element(joined((*first.steps, *self.steps)))

    def summary(self) -> str:
        """One line a step that is not the identity: where it acts and what it does."""
        lines = [f"{step.where}: {said}" for step in self.steps if (said := step.described())]
        return "\n".join(lines) or "the identity"

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the tensors that move."""
        return tuple(dict.fromkeys(name for step in self.steps for name in step.parameters))

    def __repr__(self) -> str:
        return f"Element of {len(self.steps)} steps\n{self.summary()}"
