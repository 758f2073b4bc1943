"""The model's parameters under the names that its symmetries use."""

from __future__ import annotations

from torch import Tensor, nn

from neuralmechanics.symmetry import Symmetries

# Segments that wrappers put into names: torch.compile, then data-parallel modules.
_WRAPPERS = ("_orig_mod.", "module.")


def symmetry_parameters(model: nn.Module, symmetries: Symmetries) -> dict[str, Tensor]:
    """Each parameter that enters a charge. Raises ValueError when the model has none of that name, or not as shaped.

    A model that was wrapped (compiled, data parallel) after its symmetries were found keeps its plain names.
    """
    named: dict[str, Tensor] = dict(model.named_parameters())
    plain = {_unwrapped(name): parameter for name, parameter in named.items()}
    found: dict[str, Tensor] = {}
    for name in symmetries.parameters:
        parameter = named.get(name, plain.get(name))
        if parameter is None:
            raise ValueError(
                f"the model has no parameter {name!r} that the symmetries speak of; "
                "find the symmetries of this very model"
            )
        found[name] = parameter
    return found


def _unwrapped(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name
