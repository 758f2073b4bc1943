"""Weights rounded to four bits before and after exact rewrites: a MobileNet on digits, a GPT on text.

    python benchmarks/four_bits.py [mobilenet|gains|stream ...] [--seeds 3] [--json FILE] [--page FILE]

``mobilenet``: each network's channels are given uneven ranges by a random element of its own group, every rescaling by
factors e^z with z standard normal and the diagonal of every linear block by such factors: the function stays, the
range of a channel is some tens of times that of another, as those of published MobileNets are. ``gains``: of each
family of rescalings of a GPT (a norm's gain against the weights that read it) one channel in sixteen is multiplied or
divided by 32. ``stream``: a constant of 20 is added to two channels of every position before the GPT is trained, which
leaves two massive channels in its stream.

Rounding is to the nearest of 2^bits - 1 levels that are symmetric about zero, the last one at the greatest entry: of
each weight matrix or kernel as a whole, and of activations (what enters each linear layer) for each token. Biases,
gains and what is looked up (embeddings, positions) stay. Accuracy and cross entropy are of data that were not seen.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from conditions import conditions
from four_bits_networks import MASSIVE, Batch, digits, text, trained_gpt, trained_mobilenet, windows
from four_bits_page import page
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

import neuralmechanics as nm
from neuralmechanics import rewrite

State = Mapping[str, Tensor]
Numbers = dict[str, Any]

OUTLIER, ONE_IN = 32.0, 16
PRECISIONS: dict[str, tuple[int | None, int | None]] = {
    "not rounded": (None, None),
    "4-bit weights": (4, None),
    "4-bit weights, 8-bit activations": (4, 8),
    "4-bit weights and activations": (4, 4),
}
"""Bits of weights and of activations; None: as they are."""


# --- rounding -------------------------------------------------------------------------------------------------------


def rounded(values: Tensor, bits: int, dim: int | None = None) -> Tensor:
    """The nearest of 2^bits - 1 symmetric levels, the last at the greatest entry of all, or along ``dim``."""
    greatest = values.abs().amax() if dim is None else values.abs().amax(dim, keepdim=True)
    step = torch.where(greatest > 0, greatest, 1.0) / (2 ** (bits - 1) - 1)
    return (values / step).round() * step


def read_weights(model: nn.Module) -> list[str]:
    """The weights of linear layers and convolutions."""
    return [f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]


def measured(model: nn.Module, params: State, data: Batch, bits: int | None, activations: int | None) -> Numbers:
    """Accuracy and cross entropy of a network that was rounded."""
    state = dict(params)
    if bits is not None:
        state |= {name: rounded(state[name], bits) for name in read_weights(model)}
    with ExitStack() as hooks, torch.no_grad():
        for module in model.modules() if activations is not None else ():
            if isinstance(module, nn.Linear):
                handle = module.register_forward_pre_hook(lambda _, given: (rounded(given[0], activations, -1),))
                hooks.callback(handle.remove)
        logits = functional_call(model, state, (data[0],)).flatten(0, -2)
    labels = data[1].flatten()
    accuracy = (logits.argmax(-1) == labels).double().mean()
    return {"accuracy": float(accuracy), "loss": float(functional.cross_entropy(logits, labels))}


# --- planting -------------------------------------------------------------------------------------------------------


def uneven(model: nn.Module, batch: Tensor, draw: torch.Generator) -> State:
    """The network moved by a random element of its group: all rescalings, and the diagonals of all linear blocks."""
    moved = dict(model.state_dict())
    for family in nm.find_symmetries(model, batch):
        if family.kind == "rescale":
            moved = family.transform(moved, torch.randn(family.size, generator=draw, dtype=torch.float64).exp())
        elif family.kind == "linear" and len(family.generator_shape) == 3:
            size = family.generator_shape[:2]
            factors = torch.randn(size, generator=draw, dtype=torch.float64).exp()
            moved = family.transform(moved, torch.diag_embed(factors))
    return {name: value.detach() for name, value in moved.items()}


def outliers(model: nn.Module, batch: Tensor, draw: torch.Generator) -> State:
    """The network with some channels of every family of rescalings multiplied or divided by one large factor."""
    moved = dict(model.state_dict())
    for family in nm.find_symmetries(model, batch).of_kind("rescale"):
        factors = torch.ones(family.size, dtype=torch.float64)
        chosen = torch.randperm(family.size, generator=draw)[: max(1, family.size // ONE_IN)]
        up = torch.rand(len(chosen), generator=draw) < 0.5
        factors[chosen] = torch.where(up, OUTLIER, 1 / OUTLIER).double()
        moved = family.transform(moved, factors)
    return {name: value.detach() for name, value in moved.items()}


# --- tables -----------------------------------------------------------------------------------------------------------


def row(model: nn.Module, params: State, data: Batch, precisions: list[str]) -> Numbers:
    """What the network gives in each precision."""
    return {name: measured(model, params, data, *PRECISIONS[name]) for name in precisions}


def with_proof(found: rewrite.Rewritten) -> Numbers:
    """How far the certificate's outputs lie apart, and how far they may, in float64."""
    if not found.certificate.ok:
        raise AssertionError(f"{found.certificate}")
    return {"change": found.certificate.change, "bound": found.certificate.bound}


def mobilenet(seed: int) -> Numbers:
    """As trained, with uneven ranges, and these equalised by each measure."""
    train, test = digits()
    model, seen = trained_mobilenet(train, seed), train[0][:8]
    planted = uneven(model, seen, torch.Generator().manual_seed(seed))
    precisions = ["not rounded", "4-bit weights"]
    ways = {
        "as trained": row(model, model.state_dict(), test, precisions),
        "uneven": row(model, planted, test, precisions),
    }
    proofs = {}
    for by in ("range", "max", "l2"):
        found = rewrite.equalise(model, seen, by=by, params=planted)
        way = f"equalised by {by}"
        ways[way], proofs[way] = row(model, found.params, test, precisions), with_proof(found)
    return {"network": "mobilenet", "seed": seed, "ways": ways, "proofs": proofs}


def gpt(name: str, seed: int) -> Numbers:
    """As it is with its outliers, and after each rewrite."""
    train, test = text()
    model = trained_gpt(train, seed, MASSIVE if name == "stream" else 0.0)
    draw = torch.Generator().manual_seed(seed)
    seen, data = windows(train, 8, draw)[0], windows(test, 128, draw)
    state: State = {name: value.detach() for name, value in model.state_dict().items()}
    ways = {}
    if name == "gains":
        ways["as trained"] = row(model, state, data, list(PRECISIONS))
        state = outliers(model, seen, draw)
    ways["outliers"] = row(model, state, data, list(PRECISIONS))
    rewrites = {
        "folded": lambda: rewrite.fold(model, seen, params=state),
        "smooth": lambda: rewrite.smooth(model, seen, params=state, alpha=0.5),
        "rotate": lambda: rewrite.rotate(model, seen, params=state, matrix="hadamard", prepare=True),
        "equalise": lambda: rewrite.equalise(model, seen, params=state, by="max"),
    }
    proofs = {}
    for way, act in rewrites.items():
        found = act()
        ways[way], proofs[way] = row(model, found.params, data, list(PRECISIONS)), with_proof(found)
    return {"network": name, "seed": seed, "ways": ways, "proofs": proofs}


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["mobilenet", "gains", "stream"])
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each network")
    parser.add_argument("--json", type=Path, help="write the numbers to this file too")
    parser.add_argument("--page", type=Path, help="write the tables in Markdown to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: Numbers = {**conditions(), "trainings": []}
    for name in options.networks:
        for seed in range(options.seeds):
            begun = time.process_time()
            found["trainings"].append(mobilenet(seed) if name == "mobilenet" else gpt(name, seed))
            found["trainings"][-1]["seconds"] = round(time.process_time() - begun, 1)
            print(f"{name} {seed}: {found['trainings'][-1]['seconds']} s", flush=True)
    print(page(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.page:
        options.page.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
