"""Time and memory of `find_symmetries` on whole architectures: ResNet-50, Llama-7B, mixtures of experts.

    python benchmarks/symmetries.py                  # all of them, each in a process of its own
    python benchmarks/symmetries.py --model llama-7b --profile 25

The weights of the language models are never allocated (meta device). Seconds are given by the wall clock and as
processor time, which a busy machine does not inflate; memory is the greatest resident set of the process, and what was
resident before the search (libraries and the model). ``replay`` is what running the graph beside the model adds to the
search, as a part of the search without it: the least processor time of three searches each, in turn.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

LIMITS = {"resnet50": "1 s", "llama-7b": "10 s, 1 GB", "moe-48": "60 s", "deepseek-v3": "60 s, 2 GB"}


def resnet50() -> tuple[Any, Any, Any]:
    import torch

    from neuralmechanics.experiments import build_model

    model = build_model("resnet50", input_shape=(3, 224, 224), classes=1000)
    batch = torch.zeros(2, 3, 224, 224), torch.zeros(2, dtype=torch.long)
    return model, batch, lambda m, b: torch.nn.functional.cross_entropy(m(b[0]), b[1])


def llama_7b() -> tuple[Any, Any, Any]:
    from transformers import LlamaConfig

    return language_model(LlamaConfig())


def moe_48() -> tuple[Any, Any, Any]:
    from transformers import MixtralConfig

    config = MixtralConfig(
        vocab_size=512, hidden_size=64, intermediate_size=96, num_hidden_layers=48, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4, experts_implementation="grouped_mm",
    )  # fmt: skip
    return language_model(config)


def deepseek_v3() -> tuple[Any, Any, Any]:
    """61 layers, 58 of them with 256 experts and one that is shared, as published."""
    from transformers import DeepseekV3Config

    return language_model(DeepseekV3Config(experts_implementation="grouped_mm"))


def language_model(config: Any) -> tuple[Any, Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM

    config.use_cache = False
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        tokens = torch.zeros(1, 16, dtype=torch.long)

    def loss(m: Any, b: Any) -> Any:
        logits = m(input_ids=b).logits
        return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), b[:, 1:].flatten())

    return model, tokens, loss


MODELS: dict[str, Callable[[], tuple[Any, Any, Any]]] = {
    "resnet50": resnet50,
    "llama-7b": llama_7b,
    "moe-48": moe_48,
    "deepseek-v3": deepseek_v3,
}


def megabytes() -> float:
    """The greatest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measure(name: str, profile: int) -> dict[str, Any]:
    """Times the second phase only: the model stands, the libraries are loaded; export and analysis count."""
    import torch

    from neuralmechanics.symmetry import find_symmetries

    torch.set_num_threads(1)
    find_symmetries(torch.nn.Linear(2, 2), torch.zeros(1, 2))  # what export loads at its first call
    model, batch, loss = MODELS[name]()
    before = megabytes()
    profiler = cProfile.Profile()
    if profile:
        profiler.enable()
    wall, processor = time.perf_counter(), time.process_time()
    symmetries = find_symmetries(model, batch, loss)
    out = {"wall_s": time.perf_counter() - wall, "processor_s": time.process_time() - processor}
    if profile:
        profiler.disable()
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("cumulative").print_stats(profile)
    out |= {"before_mb": before, "resident_mb": megabytes(), "parameters": sum(p.numel() for p in model.parameters())}
    out["replay_share"] = replay_share(model, batch, loss)
    return out | {"count": symmetries.count(), "unknown": [str(u) for u in symmetries.unknown][:5]}


def replay_share(model: Any, batch: Any, loss: Any) -> float:
    """Processor time of the replay over that of the search without it; none for a model without content."""
    if any(parameter.is_meta for parameter in model.parameters()):
        return 0.0
    from neuralmechanics.symmetry import find_symmetries
    from neuralmechanics.symmetry.lowering import capturing
    from neuralmechanics.symmetry.lowering.replay import Replayed

    whole = capturing.replayed

    def skipped(*_: Any, **__: Any) -> Replayed:
        return Replayed()

    spent: dict[bool, list[float]] = {True: [], False: []}
    for replayed in (True, False) * 3:
        capturing.replayed = whole if replayed else skipped
        start = time.process_time()
        find_symmetries(model, batch, loss)
        spent[replayed].append(time.process_time() - start)
    capturing.replayed = whole
    return min(spent[True]) / min(spent[False]) - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=tuple(MODELS), help="one model only; its numbers as JSON")
    parser.add_argument(
        "--profile", type=int, default=0, metavar="LINES", help="where the time goes, to standard error"
    )
    options = parser.parse_args()
    if options.model:
        print(json.dumps(measure(options.model, options.profile)))
        return
    columns = f"{'wall s':>7} {'cpu s':>7} {'first MB':>9} {'peak MB':>8} {'replay':>6}"
    print(f"{'model':<10} {'parameters':>13} {columns}  limit")
    for name in MODELS:
        command = [sys.executable, __file__, "--model", name, "--profile", str(options.profile)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{name:<10} {row['parameters']:>13,} {row['wall_s']:>7.2f} {row['processor_s']:>7.2f} "
            f"{row['before_mb']:>9.0f} {row['resident_mb']:>8.0f} "
            f"{row['replay_share']:>6.0%}  {LIMITS[name]}"
        )
        print(f"{'':<10} {row['count']}" + (f"; unknown: {', '.join(row['unknown'])}" if row["unknown"] else ""))


if __name__ == "__main__":
    main()
