"""The model's parameters under the names that its symmetries use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor, nn
from torch.optim import Optimizer

from neuralmechanics.monitor.processes.holding import ranks_of
from neuralmechanics.symmetry import Symmetries

# Names that only wrappers put into the path of a parameter: torch.compile, FSDP, checkpointing.
_ALWAYS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# The name that data parallel modules, and models too, have for what they hold.
_PERHAPS = "module"
_NESTED = 3


def symmetry_parameters(
    model: nn.Module, symmetries: Symmetries, names: Iterable[str] | None = None
) -> dict[str, Tensor]:
    """Each parameter that enters a charge, or those that are named.

    Raises ValueError when the model has none of that name, or it is flattened; TypeError for what is no model.

    A model that was wrapped (compiled, data parallel) after its symmetries were found keeps its plain names. Only
    whole parts of a name count as a wrapper's, and a name as it stands comes first.
    """
    _require_kinds(model, symmetries)
    named: dict[str, Tensor] = dict(model.named_parameters())
    wanted = list(symmetries.parameters if names is None else names)
    views = [named]
    if any(name not in named for name in wanted):
        views += [_renamed(named, rename) for rename in _RENAMES]
    found: dict[str, Tensor] = {}
    for name in wanted:
        parameter = next((view[name] for view in views if name in view), None)
        if parameter is None:
            raise ValueError(
                f"the model has no parameter {name!r} that the symmetries speak of; "
                "find the symmetries of this very model"
            )
        _require_known_shape(name, parameter)
        found[name] = parameter
    return found


def _require_kinds(model: nn.Module, symmetries: Symmetries) -> None:
    """Raises TypeError where the model is no module, or the symmetries are none."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"the model is a {type(model).__name__}; Monitor takes (model, optimizer, symmetries)")
    if not isinstance(symmetries, Symmetries):
        raise TypeError(
            f"the symmetries are a {type(symmetries).__name__}; give what find_symmetries returned, or Symmetries((…))"
        )


def followed_parameters(model: nn.Module, symmetries: Symmetries) -> dict[str, Tensor]:
    """Each parameter that enters a charge; ValueError where none does, with the reason."""
    params = symmetry_parameters(model, symmetries)
    if not params:
        why = "".join(f"; {f.name}: {f.action.unfollowed}" for f in symmetries if f.action.unfollowed)
        raise ValueError(f"the symmetries hold no charge, so there is nothing to monitor in this model{why}")
    return params


def require_same(model: nn.Module, symmetries: Symmetries, params: Mapping[str, Tensor]) -> None:
    """Raises RuntimeError where the model now has another tensor, or none, in the place of one that is followed.

    Shards are not asked: between a forward pass and a step their module may hold whole tensors in their place.
    """
    whole = {name: parameter for name, parameter in params.items() if not ranks_of(parameter)}
    try:
        now = symmetry_parameters(model, symmetries, whole)
    except ValueError as error:
        raise RuntimeError(f"the model was changed: {error}") from None
    if replaced := [name for name, parameter in whole.items() if now[name] is not parameter]:
        raise RuntimeError(
            f"the model's parameter {replaced[0]!r} is another tensor than the one that was followed (a new layer, "
            "load_state_dict(assign=True)?); leave the monitor before that, and enter a new one with resume=STEP"
        )


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


def _renamed(named: Mapping[str, Tensor], rename: Callable[[list[str]], list[str]]) -> dict[str, Tensor]:
    """Names as `rename` leaves their parts, those alone that stay different from each other."""
    plain = [(".".join(rename(name.split("."))), parameter) for name, parameter in named.items()]
    counts = Counter(name for name, _ in plain)
    return {name: parameter for name, parameter in plain if counts[name] == 1}


def _bare(parts: list[str]) -> list[str]:
    return [part for part in parts if part not in _ALWAYS]


def _without_first(count: int) -> Callable[[list[str]], list[str]]:
    """Leaves out so many `module` at the front, where a wrapper of the whole model puts them."""

    def rename(parts: list[str]) -> list[str]:
        bare = _bare(parts)
        return bare[count:] if bare[:count] == [_PERHAPS] * count else parts

    return rename


def _without_all(parts: list[str]) -> list[str]:
    return [part for part in _bare(parts) if part != _PERHAPS]


# The least is left out that makes a name known.
_RENAMES = [_bare, *(_without_first(count) for count in range(1, _NESTED + 1)), _without_all]


def _require_known_shape(name: str, parameter: Tensor) -> None:
    """FSDP of the first kind flattens parameters, which hides the channels that charges are sums over."""
    if getattr(parameter, "_is_flat_param", False) or getattr(parameter, "_fsdp_flattened", False):
        raise ValueError(
            f"parameter {name!r} is flattened by FullyShardedDataParallel, so its channels cannot be told apart; use "
            "torch.distributed.fsdp.fully_shard, or monitor the training in one process"
        )
