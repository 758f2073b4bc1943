"""The model's parameters under the names that its symmetries use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from neuralmechanics.symmetry import Symmetries

# Names that wrappers put into the path of a parameter: torch.compile, FSDP and checkpointing, data parallel.
_ALWAYS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_PERHAPS = (*_ALWAYS, "module")


def symmetry_parameters(model: nn.Module, symmetries: Symmetries) -> dict[str, Tensor]:
    """Each parameter that enters a charge. Raises ValueError when the model has none of that name, or only a share.

    A model that was wrapped (compiled, data parallel) after its symmetries were found keeps its plain names. Only
    whole parts of a name count as a wrapper's, and a name as it stands comes first.
    """
    named: dict[str, Tensor] = dict(model.named_parameters())
    views = [named, _without(named, _ALWAYS), _without(named, _PERHAPS)]
    found: dict[str, Tensor] = {}
    for name in symmetries.parameters:
        parameter = next((view[name] for view in views if name in view), None)
        if parameter is None:
            raise ValueError(
                f"the model has no parameter {name!r} that the symmetries speak of; "
                "find the symmetries of this very model"
            )
        _require_whole(name, parameter)
        found[name] = parameter
    return found


def require_owner(params: Mapping[str, Tensor], optimizers: Iterable[Optimizer]) -> None:
    """Raises ValueError where the optimisers hold none of the parameters: they move another model."""
    given = list(optimizers)
    held = {id(p) for optimizer in given for group in optimizer.param_groups for p in group["params"]}
    if not any(id(parameter) in held for parameter in params.values()):
        names = ", ".join(type(optimizer).__name__ for optimizer in given) or "an empty list"
        raise ValueError(
            f"{names} holds none of the {len(params)} parameters that the symmetries speak of, so the model would "
            "stand still (a copy of it, or a model made anew after its optimiser?); give the optimiser of this model"
        )


def _without(named: Mapping[str, Tensor], wrappers: tuple[str, ...]) -> dict[str, Tensor]:
    """Names with the wrappers' parts left out, those alone that stay different from each other."""
    out: dict[str, Tensor] = {}
    clashes: set[str] = set()
    for name, parameter in named.items():
        plain = ".".join(part for part in name.split(".") if part not in wrappers)
        if plain in out:
            clashes.add(plain)
        out[plain] = parameter
    return {name: parameter for name, parameter in out.items() if name not in clashes}


def _require_whole(name: str, parameter: Tensor) -> None:
    """Of a sharded parameter this process must hold everything."""
    mesh: Any = getattr(parameter, "device_mesh", None)
    local = getattr(parameter, "to_local", None)
    if local is not None and tuple(local().shape) != tuple(parameter.shape):
        raise ValueError(
            f"parameter {name!r} is sharded over {mesh.size()} processes, which a monitor does not put together; "
            "monitor the training in one process"
        )
