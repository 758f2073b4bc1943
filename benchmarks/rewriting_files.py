"""A checkpoint of a billion parameters in bfloat16 folded and turned from shard to shard: time, memory, bytes.

    python benchmarks/rewriting_files.py make FOLDER             # 1.01e9 parameters of a Llama, in shards of 256 MB
    python benchmarks/rewriting_files.py rewrite FOLDER OUT --json
    python benchmarks/rewriting_files.py rewrite FOLDER OUT --matrix hadamard
    python benchmarks/rewriting_files.py kill FOLDER OUT --times 50 --seed 0   # what is left of killed ones

``bytes_in`` and ``bytes_out`` are what the operating system counted (/proc/self/io) while the files were rewritten.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from neuralmechanics.rewrite import rotate
from neuralmechanics.rewrite.files import rewrite_checkpoint

SHARD = 1 << 28  # bytes, at most
WIDTH, INNER, WORDS = 2048, 5632, 32000
COUNTERS = Path("/proc/self/io")


def model(layers: int) -> nn.Module:
    """A Llama of so many layers, none of its parameters allocated."""
    import transformers

    config = transformers.LlamaConfig(
        hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=layers, num_attention_heads=32,
        num_key_value_heads=4, vocab_size=WORDS, use_cache=False, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.device("meta"):
        hollow: nn.Module = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    return hollow.eval()


def make(folder: Path, layers: int) -> None:
    """Random tensors in shards; gains about one."""
    folder.mkdir()
    draw, part, size = torch.Generator().manual_seed(0), {}, 0
    places: dict[str, str] = {}
    state = dict(model(layers).state_dict())
    for k, (name, value) in enumerate(state.items()):
        part[name] = torch.randn(value.shape, generator=draw).mul_(0.02).add_(value.ndim == 1).bfloat16()
        size += part[name].nbytes
        if size > SHARD or k == len(state) - 1:
            file = f"model-{len(set(places.values())):05}.safetensors"
            save_file(part, folder / file, metadata={"format": "pt"})
            places |= dict.fromkeys(part, file)
            part, size = {}, 0
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def counted() -> dict[str, int]:
    """Bytes that this process has read and written by calls of the system; nothing where it does not count them."""
    if not COUNTERS.exists():
        return {}
    return {key: int(value) for key, value in (line.split(": ") for line in COUNTERS.read_text().splitlines())}


def rewrite(folder: Path, out: Path, layers: int, matrix: str) -> dict[str, Any]:
    """Seconds of the clock and of the processor for the plan and for the files; memory and bytes."""
    hollow = model(layers)
    clock, worked = [time.monotonic()], [time.process_time()]

    def lap() -> None:
        clock.append(time.monotonic())
        worked.append(time.process_time())

    batch = torch.zeros(1, 8, dtype=torch.long, device="meta")
    plan = rotate(hollow, batch, matrix=matrix, prepare=True).plan
    lap()
    before = counted()
    report = rewrite_checkpoint(folder, out, plan, hollow)
    after = counted()
    lap()
    return {
        "parameters": sum(p.numel() for p in hollow.parameters()),
        "changed": len(report.changed),
        "seconds": clock[2] - clock[0],
        "plan_seconds": clock[1] - clock[0],
        "processor_seconds": worked[2] - worked[0],
        "plan_processor_seconds": worked[1] - worked[0],
        "threads": torch.get_num_threads(),
        "bytes_of_tensors_read": report.bytes_read,
        "bytes_of_tensors_written": report.bytes_written,
        "bytes_in": after["rchar"] - before["rchar"] if after else None,
        "bytes_out": after["wchar"] - before["wchar"] if after else None,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def kill(folder: Path, out: Path, layers: int, times: int, seed: int) -> Iterator[dict[str, Any]]:
    """Rewrites killed by SIGKILL at random moments: when, and what is left at the target: absent, whole, or another."""
    torch.set_num_threads(1)  # a child of a process with threads could wait for them forever
    hollow = model(layers)
    batch = torch.zeros(1, 8, dtype=torch.long, device="meta")
    plan = rotate(hollow, batch, matrix="random", prepare=True).plan
    out.mkdir()

    def rewriting(target: Path) -> int:
        child = os.fork()
        if not child:
            status = 3
            try:
                rewrite_checkpoint(folder, target, plan, hollow)
                status = 0
            finally:
                os._exit(status)
        return child

    begun = time.monotonic()
    os.waitpid(rewriting(out / "whole"), 0)
    length = time.monotonic() - begun
    expected, source = _digests(out / "whole"), _digests(folder)
    shutil.rmtree(out / "whole")
    draw = random.Random(seed)
    for _ in range(times):
        moment = draw.random() * 1.1 * length
        child = rewriting(out / "target")
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)  # not yet waited for: it is this child, ended or not
        _, status = os.waitpid(child, 0)
        left = "absent"
        if (out / "target").exists():
            left = "whole" if _digests(out / "target") == expected else "neither absent nor whole"
            shutil.rmtree(out / "target")
        yield {"moment": moment, "of": length, "killed": os.WIFSIGNALED(status), "left": left}
    assert _digests(folder) == source, "the checkpoint that was read has changed"


def _digests(folder: Path) -> dict[str, str]:
    out = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            out[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=("make", "rewrite", "kill"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--layers", type=int, default=20, help="20 make a billion parameters")
    parser.add_argument("--matrix", choices=("random", "hadamard"), default="random")
    parser.add_argument("--times", type=int, default=50, help="how many are killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    given = parser.parse_args()
    if given.action == "make":
        make(given.folder, given.layers)
        return
    if given.out is None:
        parser.error("name the folder that is to be written")
    if given.action == "kill":
        for one in kill(given.folder, given.out, given.layers, given.times, given.seed):
            print(json.dumps(one), flush=True)
        return
    found = rewrite(given.folder, given.out, given.layers, given.matrix)
    if given.json:
        print(json.dumps(found))
    else:
        for key, value in found.items():
            print(f"{key:>26}  {value:,.1f}" if isinstance(value, float) else f"{key:>26}  {value:,}")


if __name__ == "__main__":
    main()
