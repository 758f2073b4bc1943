"""Random elements of whole symmetry groups, all kinds mixed, planted into a hundred architectures and found again.

``python benchmarks/planted_elements.py [--page docs/about/planted.md]`` goes through ``ARCHITECTURES``; names of
networks (or ``--all`` for everything that the tests and Transformers have) choose others. Of every network a random
element of each exact family and of each space is composed, the parameters are transformed by it, and ``equivalent``
and ``align`` are given the parameters before and after and nothing else. One process a network; ``--lines FILE``
keeps every answer as soon as it is known, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import coverage_of_transformers as coverage
from processes import answers as answers_of

BOUND = 1e-6  # of the norm of all parameters, after the alignment

SMALL = """
    attention-all-biases attention-grouped-queries attention-post-layer-norm attention-pre-layer-norm
    attention-qk-norm attention-qk-norm-rotary attention-rotary-all-biases cross-attention
    cross-attention-separate encoder-layer-module encoder-layer-norm-first multihead-attention-module
    packed-biases-of-two-streams-module packed-keys-of-another-stream rotary-complex rotary-halves
    rotary-partial conv1d-stack conv3d-stack depthwise-separable squeeze-excite group-norm instance-norm
    weight-norm pixel-shuffle gated-silu glu-module maxout low-rank-adapter mamba-scan linear-attention
    gru-module lstm-module lstm-projected rnn-cell-tanh words-tied-lstm experts-grouped-gate dense-experts
    routed-dense gain-about-one norm-bias-behind-an-offset-gain modulation tied-autoencoder
    embedding-tied-under-norm vit llama-block-on-vectors
"""
FULL = """
    transformer-encoder convnext densenet gru-cell lstm mobilenet patch-vit resnet resnet-bottleneck u-net vgg
    vgg-bn wide-resnet
"""
RANDOM = [f"{kind}/{seed}/11" for seed in range(5) for kind in ("classical", "modern")]
PUBLISHED = """
    llama mistral qwen2 qwen3 gemma2 phi gpt_neox gptj opt falcon nemotron olmo2 cohere mixtral qwen2_moe
    deepseek_v2 mamba2 jamba rwkv recurrent_gemma codegen bert roberta albert t5 bart whisper vit swin
    convnextv2 mobilenet_v2
"""
ARCHITECTURES = [
    *(f"small/{name}" for name in SMALL.split()),
    *(f"full/{name}" for name in FULL.split()),
    *RANDOM,
    *(f"hf/{name}" for name in PUBLISHED.split()),
]

Case = tuple[Any, Any, Any]  # model, batch, loss function


def everything() -> list[str]:
    """Names of all networks: of the zoo, drawn at random, of Transformers."""
    from tests.symmetry.before_after import zoo

    drawn = [f"{kind}/{seed}/11" for kind in ("classical", "modern") for seed in range(10)]
    return [name for name, _ in zoo()] + drawn + [f"hf/{kind}" for kind in _published()]


@cache
def _published() -> dict[str, tuple[str, str]]:
    from tests.symmetry.before_after import _coverage_script

    return {kind: (head, name) for kind, head, name in _coverage_script().architectures()}


def made(name: str) -> Case:
    """A network by its name."""
    from tests.symmetry import before_after

    if name.startswith("hf/"):
        head, cls = _published()[name.removeprefix("hf/")]
        return _transformer(head, cls)
    source: Callable[[], Any] = before_after.zoo
    if name.startswith(("classical/", "modern/")):
        kind, seed, number = name.split("/")
        strategy = getattr(before_after, f"{kind}_networks")()
        drawn = before_after._drawn(strategy, int(seed))
        return before_after._case(drawn[min(int(number), len(drawn) - 1)])
    return dict(source())[name]()


def _transformer(head: str, name: str) -> Case:
    from rewrites_of_transformers import running

    return *running(head, name), coverage.logits_of


def look(name: str, seed: int = 0) -> dict[str, Any]:
    """One network: the element planted, found by ``equivalent``, and the distance that ``align`` leaves."""
    import torch
    from tests.rewrite.comparing.planting import distance as gap
    from tests.rewrite.comparing.planting import planted, state_of

    from neuralmechanics.rewrite.comparing.align import aligned
    from neuralmechanics.rewrite.comparing.checkpoints import Function, read
    from neuralmechanics.rewrite.comparing.equivalence import compared
    from neuralmechanics.rewrite.comparing.parts.network import Network
    from neuralmechanics.rewrite.comparing.solving.matching import matched

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    try:
        model, batch, loss_fn = made(name)
    except LookupError as error:
        return {"state": "not built", "reason": str(error)[:200]}
    start = time.process_time()
    network = Network.of(model, batch, loss_fn)
    told = {"families": sum(f.exact for f in network.symmetries), "spaces": len(network.symmetries.spaces)}
    told |= {"parameters": sum(p.numel() for p in model.parameters())}
    if not told["families"] and not told["spaces"]:
        return {"state": "no symmetry", "reason": "nothing can be planted", **told}
    searched = time.process_time() - start
    before = {name: value.double() for name, value in state_of(model).items()}
    after = planted(network.symmetries, seed).transform(before)
    function = Function(model, batch, loss_fn)
    start = time.process_time()
    names = [n for n in network.tensors if n in before]
    first = matched(network, read(after, names), read(before, names))
    told |= {"planted": gap(before, after), "search": round(searched, 1), "change": function.change(before, after)}
    if first.off > 1e-7:
        worst = sorted(((g, n) for n, g in first.gaps.items() if g > 1e-7), reverse=True)[:3]
        reason = ", ".join(f"{n} off by {g:.1e}" for g, n in worst)
        return {"state": "missed", "reason": reason, "seconds": round(time.process_time() - start, 1), **told}
    answer = compared(network, function, before, after, tolerance=1e-9)
    element = aligned(network, read(after, names), read(before, names)).element
    left = gap(after, element.transform(before))
    state = "found" if answer.equal and left <= BOUND else "missed"
    told |= {"left": left, "seconds": round(time.process_time() - start, 1), "reason": str(answer)[:200]}
    return {"state": state, **told}


def main() -> None:
    """Prints the table and the summary."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="networks; ARCHITECTURES when none is given")
    parser.add_argument("--all", action="store_true", help="everything that there is")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds a network may take")
    parser.add_argument("--workers", type=int, default=1, help="networks at a time")
    parser.add_argument("--lines", help="append every answer to this file; leave out what it has")
    parser.add_argument("--page", help="write the table in Markdown to this file")
    arguments = parser.parse_args()
    import torch
    import transformers

    from neuralmechanics import rewrite  # noqa: F401 - loaded once, before the processes are forked

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    names = arguments.names or (everything() if arguments.all else ARCHITECTURES)
    answers = coverage.written(arguments.lines)
    cases = [(name,) for name in names if name not in answers]
    for (name,), answer in answers_of(look, cases, arguments.limit, arguments.workers):
        answers[name] = answer
        if arguments.lines:
            with open(arguments.lines, "a", encoding="utf-8") as file:
                file.write(json.dumps({"kind": name, **answer}) + "\n")
        print(line(name, answer), flush=True)
    chosen = {name: answers[name] for name in names}
    print(summary(chosen))
    if arguments.page:
        Path(arguments.page).write_text(page(chosen), encoding="utf-8")


def line(name: str, answer: dict[str, Any]) -> str:
    """What became of one network."""
    if answer["state"] == "found":
        return f"{name:44s} found: distance {answer['left']:.1e}, {answer['seconds']} s"
    return f"{name:44s} {answer['state'].upper()}: {answer.get('seconds', '-')} s {answer.get('reason', '')}"


def summary(answers: dict[str, dict[str, Any]]) -> str:
    """How many were found, how near and how fast."""
    found = [a for a in answers.values() if a["state"] == "found"]
    if not found:
        return f"0 of {len(answers)} found"
    return (
        f"{len(found)} of {len(answers)} found; greatest distance {max(a['left'] for a in found):.1e} of the norm, "
        f"at most {max(a['seconds'] for a in found):.0f} s"
    )


def page(answers: dict[str, dict[str, Any]]) -> str:
    """The table in Markdown."""
    import transformers

    lines = [
        "# Planted elements",
        "",
        "Made by `python benchmarks/planted_elements.py --page`; no number on this page is written by hand.",
        "",
        "A random element of every exact family and of every space of a network, one after another, is applied to its",
        "parameters; `equivalent` and `align` are given the parameters before and after. *moved*: how far the element",
        f"moves them, of their norm; *left*: the same after `align`, at most {BOUND:.0e} where it says *found*;",
        "*seconds* of one core's time for both, the search for symmetries apart. The networks are small, in float64.",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, transformers {transformers.__version__}: {summary(answers)}.",
        "",
        "| network | families | spaces | moved | left | seconds | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, a in answers.items():
        left = f"{a['left']:.0e}" if "left" in a else ""
        cells = [a.get("families", ""), a.get("spaces", ""), f"{a.get('planted', 0):.2f}", left, a.get("seconds", "")]
        lines.append(f"| {name} | {' | '.join(map(str, cells))} | {a['state']} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
