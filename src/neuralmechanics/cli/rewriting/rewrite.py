"""`rewrite`: a model's tensors rewritten so that it computes the same; what cannot be shown to is not written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from neuralmechanics.cli.rewriting.rewrite_folder import holds_shards, print_folder_rewrite
from neuralmechanics.cli.target import Target, resolve
from neuralmechanics.cli.terminal.meter import terminal_status

if TYPE_CHECKING:
    from torch import Tensor, nn

    from neuralmechanics.cli.target import Batch

_Flat = tyro.conf.arg(name="")


@dataclass(frozen=True)
class Rewrite:
    """Rewrite a model's tensors exactly: untie, fold, centre, smooth, equalise, rotate, permute, in this order."""

    target: Annotated[Target, _Flat]
    untie: bool = False
    """give tied tensors (embedding and head) values of their own"""
    fold: bool = False
    """move gains and biases of norms into the weights that read them"""
    centre: bool = False
    """take the mean off what writes a stream that layer norms read"""
    smooth: float | None = None
    """move range from activations to weights, with this exponent (0.5)"""
    equalise: Literal["range", "max", "l2"] | None = None
    """make the slices of each weight alike in size, by this measure"""
    rotate: Literal["random", "hadamard"] | None = None
    """turn residual streams and heads by this matrix"""
    permute: bool = False
    """put channels, heads and experts in another order"""
    source: Annotated[str | None, tyro.conf.arg(name="in")] = None
    """weights: a safetensors or torch file, or a folder of safetensors shards; default: the target's own, random"""
    out: str | None = None
    """file that the new weights are written to, a new folder for those of a folder; default: nothing is written"""
    json: bool = False
    """print plan, certificate and what was refused as JSON"""


def run_rewrite(command: Rewrite) -> None:
    """Print the certificate and what was refused, and write the new weights."""
    import json

    steps = _steps(command)
    if not steps:
        raise ValueError("nothing to do: give --untie, --fold, --centre, --smooth, --equalise, --rotate or --permute")
    for option, value in (("in", command.source), ("out", command.out)):
        if value == "":
            raise ValueError(f"--{option} is empty; name a file or a folder")
    if command.source is not None and holds_shards(Path(command.source)):
        _rewrite_folder(command, Path(command.source), steps)
        return
    # Without weights to rewrite a published configuration has a plan and needs no memory.
    found = resolve(command.target, allocate=command.source is not None)

    from neuralmechanics.files.weights import read_weights, single_file, write_weights
    from neuralmechanics.rewrite import in_turn

    file = single_file(Path(command.source)) if command.source is not None else None
    out = None if command.out is None else _target(Path(command.out), file)
    model = found.model.eval()
    given = None if file is None else read_weights(file)
    params = None if given is None else _completed(model, given, str(file))
    batch = found.batch if given is None else _as_stored(model, found.batch, given)
    with terminal_status("rewriting"):
        rewritten = in_turn(model, batch, steps, _output, params=params)
    strange = () if given is None else tuple(sorted(set(given) - set(model.state_dict())))
    if command.json:
        print(json.dumps(rewritten.to_dict() | {"kept": strange}, indent=2))
    else:
        print(rewritten)
        for name in strange:
            print(f"kept as it is: {name}, which the model does not have")
    if out is not None:
        names = (*(given if given is not None else rewritten.params), *rewritten.plan.untied)
        write_weights(out, {name: rewritten.params[name] for name in dict.fromkeys(names)})


def _rewrite_folder(command: Rewrite, folder: Path, steps: list[tuple[str, dict[str, Any]]]) -> None:
    found = resolve(command.target, allocate=False)
    out = None if command.out is None else Path(command.out)
    print_folder_rewrite(found.model.eval(), found.batch, steps, folder, out, json=command.json)


def _steps(command: Rewrite) -> list[tuple[str, dict[str, Any]]]:
    """The actions asked for, in the order in which each leaves room for the next."""
    steps: list[tuple[str, dict[str, Any]]] = [("untie", {})] if command.untie else []
    steps += [("fold", {})] if command.fold else []
    steps += [("centre", {})] if command.centre else []
    steps += [("smooth", {"alpha": command.smooth})] if command.smooth is not None else []
    steps += [("equalise", {"by": command.equalise})] if command.equalise is not None else []
    seed = command.target.seed
    steps += [("rotate", {"matrix": command.rotate, "seed": seed})] if command.rotate is not None else []
    steps += [("permute", {"seed": seed})] if command.permute else []
    return steps


def _output(model: nn.Module, batch: Any) -> Any:
    """The model's whole output on the inputs: what must stay."""
    return model(batch[0])


def _target(out: Path, file: Path | None) -> Path:
    """The file that is written: in a folder it has the name of the one that was read."""
    from neuralmechanics.files.weights import require_new

    path = out if out.suffix else out / (file.name if file is not None else "model.safetensors")
    require_new(path)
    return path


def _completed(model: nn.Module, given: dict[str, Tensor], file: str) -> dict[str, Tensor]:
    """The file's tensors under every name of the model; tied parameters may be there by one name."""
    first: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        first.setdefault(id(parameter), []).append(name)
    out = dict(given)
    for names in first.values():
        known = next((name for name in names if name in given), None)
        if known is None:
            raise ValueError(f"{file} has no {names[0]!r}, which the model has: is it another model's?")
        out |= {name: given[known] for name in names if name not in given}
    for name, buffer in model.state_dict().items():
        out.setdefault(name, buffer)
    return out


def _as_stored(model: nn.Module, batch: Batch, given: dict[str, Tensor]) -> Batch:
    """The batch in the one precision in which the file has the parameters, where it is one; so is the model then."""
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    floats = {given[name].dtype for name in names if name in given and given[name].is_floating_point()}
    if len(floats) != 1 or (dtype := floats.pop()).itemsize == 1:  # no network computes in eight bits
        return batch
    model.to(dtype)
    inputs, targets = (x.to(dtype) if x.is_floating_point() else x for x in batch)
    return inputs, targets
