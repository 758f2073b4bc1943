"""Every architecture of Transformers, tiny and with random weights, through ``find_symmetries``: what has no rule yet.

``python benchmarks/coverage_of_transformers.py [architecture …]`` prints one line an architecture (seconds, charges by
kind, operations without a rule or the exception) and a summary. Nothing is downloaded. Each architecture runs in a
process of its own, so that one that hangs costs its time limit only; ``--workers N`` runs N at a time.

``--null-space`` builds each once more, smaller still, and holds what is found against the null space of its Jacobian
(``null_spaces.py``) where that model has at most 3,600 parameters. ``--lines FILE`` appends one JSON object an
answer as soon as it is known and leaves out those that the file has (with ``--again`` only what was measured);
``--page FILE`` writes the table of all that is in the lines. So an interrupted run goes on where it stopped;
``--only-page`` runs nothing, ``--from-page FILE`` takes from a page what is not in the lines.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys
import time
import warnings
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

sys.path.insert(0, str(Path(__file__).resolve().parent))
from coverage_page import answers_in, in_words, page
from processes import answers as answers_of
from tiny_configurations import ATTEMPTS, IMAGE, WORDS, built

Case = tuple[str, str, str]  # model type, head, class

HEADS = ("causal_lm", "masked_lm", "sequence_classification", "image_classification")
LENGTH, BATCH = 6, 2
TEXTS = 6  # times as many in a measured batch: six of them miss one word of 31 once in a million


def architectures() -> list[Case]:
    """(model type, head, class) for each type with a head that takes tokens or images, the first of ``HEADS``."""
    from transformers.models.auto import modeling_auto

    tables = {head: getattr(modeling_auto, f"MODEL_FOR_{head.upper()}_MAPPING_NAMES") for head in HEADS}
    found = []
    for kind in modeling_auto.CONFIG_MAPPING_NAMES if hasattr(modeling_auto, "CONFIG_MAPPING_NAMES") else _kinds():
        head = next((h for h in HEADS if kind in tables[h]), None)
        if head is not None:
            name = tables[head][kind]
            found.append((kind, head, name if isinstance(name, str) else name[0]))
    return found


def _kinds() -> list[str]:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return list(CONFIG_MAPPING_NAMES)


def batch_for(model: Any, head: str, device: str) -> dict[str, Any]:
    """Random tokens or pixels, under the names that the model's ``forward`` takes."""
    import torch

    taken = inspect.signature(model.forward).parameters
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    if "spatial_shapes" in taken:  # patches, flattened
        patch, channels = model.config.vision_config.patch_size, model.config.vision_config.num_channels
        batch = {
            "pixel_values": torch.randn(BATCH, 4, channels * patch**2),
            "pixel_attention_mask": torch.ones(BATCH, 4, dtype=torch.long),
            "spatial_shapes": torch.full((BATCH, 2), 2),
        }
    elif "pixel_values" in taken and (head == "image_classification" or "input_ids" not in taken):
        vision = getattr(model.config, "vision_config", model.config)
        size = getattr(vision, "image_size", IMAGE) or IMAGE
        size = size if isinstance(size, int) else size[0]
        channels = getattr(vision, "num_channels", 3)
        batch = {"pixel_values": torch.randn(BATCH, channels, size, size)}
    else:
        words = min(getattr(config, "vocab_size", WORDS) or WORDS, WORDS)
        batch = {"input_ids": torch.randint(2, words, (BATCH, LENGTH))}
        if "decoder_input_ids" in taken:
            batch["decoder_input_ids"] = torch.randint(2, words, (BATCH, LENGTH))
        if "bbox" in taken:
            batch["bbox"] = torch.zeros(BATCH, LENGTH, 4, dtype=torch.long)
        if head == "sequence_classification" and model.config.eos_token_id is not None:
            eos = model.config.eos_token_id
            batch["input_ids"][:, -1] = eos if isinstance(eos, int) else eos[0]
    return {name: value.to(device) for name, value in batch.items()}


def logits_of(model: Any, batch: dict[str, Any]) -> Any:
    """What the loss would read."""
    settings = {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    out = model(**batch, **settings)
    return out.logits if hasattr(out, "logits") else out[0]


def look(kind: str, head: str, name: str) -> dict[str, Any]:
    """One architecture: how long the search takes, what it finds, what has no rule."""
    import torch

    from neuralmechanics import find_symmetries

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    reason = ""
    for attempt in ATTEMPTS:
        try:
            model = built(name, attempt)
            batch = batch_for(model, head, "cpu" if attempt != "two layers" else "meta")
            with torch.no_grad():
                logits_of(model, batch)
            break
        except Exception as error:  # noqa: BLE001 - the next attempt, or the reason in the table
            reason = reason or f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:120]
    else:
        return {"state": "not built", "reason": reason}
    start = time.process_time()
    try:
        found = find_symmetries(model, batch, logits_of)
    except Exception as error:  # noqa: BLE001 - counted and printed
        text = str(error).splitlines()[0] if str(error) else ""
        return {"state": "exception", "reason": f"{type(error).__name__}: {text}"[:300], "first": reason}
    free = sum(c.status == "free" for c in found.coverage)
    return {
        "state": "found",
        "size": attempt,
        "first": reason,
        "seconds": round(time.process_time() - start, 1),
        "count": found.count(),
        "unknown": Counter(u.operation for u in found.unknown),
        "covered": sum(c.status == "covered" for c in found.coverage),
        "free": free,
        "route": "trace" if any("tracing" in note for note in found.notes) else "export",
    }


def null_space(kind: str, head: str, name: str, most: int = 3600) -> dict[str, Any]:
    """The architecture at its smallest beside the null space of its Jacobian; or why not."""
    import torch
    from null_spaces import Logits, compared, idealised

    from neuralmechanics import find_symmetries

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    reasons = []
    for smallest, attempt in ((True, "tiny"), (True, "tiny, own lists"), (False, "tiny"), (False, "tiny, own lists")):
        try:
            model = _plain(built(name, attempt, smallest))
            batch = batch_for(model, head, "cpu")
            unread = _frozen(model, batch)
        except Exception as error:  # noqa: BLE001 - the next attempt, or the reason in the table
            reasons.append(_told(error))
            continue
        size = sum(p.numel() for p in model.parameters() if p.requires_grad)
        if size <= most:
            break
        reasons.append(f"{size:,} parameters at the smallest")
    else:
        return {"state": "not measured", "reason": next((r for r in reasons if "parameters" in r), reasons[0])}
    model = idealised(model)
    module = Logits(model, list(batch), logits_of)
    start = time.process_time()
    try:
        mode = _settled_mode(model, module, [_wide(x) for x in batch.values()])
        found = find_symmetries(model, {n: _wide(x) for n, x in batch.items()}, _double_logits)
        answer = compared(module, lambda generator: _drawn(model, head, batch, generator), found)
    except Exception as error:  # noqa: BLE001 - counted and printed
        return {"state": "exception", "reason": _told(error), "parameters": size}
    unknown = Counter(u.operation for u in found.unknown)
    seconds = round(time.process_time() - start, 1)
    return {"state": "measured", "seconds": seconds, "unknown": unknown, "unread": unread, "mode": mode, **answer}


def _plain(model: Any) -> Any:
    """The model with experts as plain products: grouped ones know no float64 and no odd width."""
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    return model


def _frozen(model: Any, batch: dict[str, Any]) -> int:
    """Parameters of modules that are not run (towers for images beside words, say) take no part: how many elements.

    What is run and has no gradient stays, such as what only chooses tokens: it may have to move with what it reads.
    """
    import torch

    run: set[Any] = set()
    hooks = [part.register_forward_pre_hook(lambda part, _: run.add(part)) for part in model.modules()]
    with torch.enable_grad():
        logits = logits_of(model, batch)
    for hook in hooks:
        hook.remove()
    named = [p for p in model.parameters() if p.requires_grad]
    met = torch.autograd.grad(logits.sum(), named, allow_unused=True)
    held = {p for part in run for p in part.parameters(recurse=False)}
    unread = [p for p, gradient in zip(named, met, strict=True) if gradient is None and p not in held]
    for parameter in unread:
        parameter.requires_grad_(False)
    return sum(p.numel() for p in unread)


def _settled_mode(model: Any, module: Any, tensors: list[Any]) -> str:
    """Training; but evaluation for what draws at random in training, of which no derivative is that of a function."""
    import torch

    with torch.no_grad():
        first, second = module(*tensors), module(*tensors)
    if torch.equal(first, second):
        return "training"
    model.eval()
    return "evaluation"


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]


def _wide(tensor: Any) -> Any:
    return tensor.double() if tensor.is_floating_point() else tensor


def _double_logits(model: Any, batch: dict[str, Any]) -> Any:
    """The logits in float64, whatever the model asks for inside."""
    from null_spaces import Ideal

    with Ideal():
        return logits_of(model, batch)


def _drawn(model: Any, head: str, like: dict[str, Any], generator: Any) -> tuple[Any, ...]:
    """A batch of the same form drawn anew; words from all that there are, for each must be met."""
    import torch

    out = {}
    many = 16 if head in ("sequence_classification", "image_classification") else TEXTS  # few logits an input
    for name, one in like.items():
        tensor = one.repeat(many, *[1] * (one.ndim - 1))
        if tensor.is_floating_point():
            out[name] = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        elif name == "bbox":
            out[name] = torch.sort(torch.randint(0, 8, tensor.shape, generator=generator), dim=-1).values
        else:
            out[name] = torch.randint(0, _words(model), tensor.shape, generator=generator)
    if head == "sequence_classification" and "input_ids" in out:
        words, last = out["input_ids"], like["input_ids"][0, -1]
        words[words == last] = 0  # a word that ends the text stands at its end alone
        words[:, -1] = last
    return tuple(out.values())


def _words(model: Any) -> int:
    """How many words there are: of prompts, too, where the table of words holds them behind the vocabulary."""
    words = min(getattr(model.config.get_text_config(), "vocab_size", WORDS) or WORDS, WORDS)
    table = getattr(getattr(model, model.base_model_prefix, None), "input_embedding", None)
    return max(words, getattr(table, "num_embeddings", 0))


def results(cases: list[Case], limit: float, workers: int = 1) -> Any:
    """One process an architecture; at most ``workers`` at a time."""
    return answers_of(look, cases, limit, workers)


def written(path: str | None) -> dict[str, dict[str, Any]]:
    """The answers in a file of JSON lines; a last line that was cut off is left out."""
    if path is None or not os.path.exists(path):
        return {}
    out = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        out.setdefault(entry["kind"], {}).update(entry)
    return out


def _answered(answer: dict[str, Any], entry: str, again: bool) -> bool:
    """Whether the file has this answer, and one that a repetition would not better."""
    if entry not in answer:
        return False
    state = answer[entry] if entry == "state" else answer[entry]["state"]
    return not again or state in ("found", "measured")


def told(line: dict[str, Any]) -> str:
    """One line of the printed tables: of the search, or of the null space."""
    start = f"{line['kind']:28s} {line['class']:44s}"
    beside = line.get("null space")
    if beside is not None and beside["state"] == "measured":
        counts = "  ".join(f"{k} {beside[k][0]} of {beside[k][1]}" for k in ("translations", "diagonal", "fibre"))
        kernels = in_words(beside["kernels"]) or "-"
        false = f"  FALSE: {beside['false']}" if beside["false"] else ""
        return f"{start} {beside['parameters']} parameters: {counts}  unexplained: {kernels}{false}"
    if beside is not None:
        return f"{start} null space: {beside['state']}: {beside['reason']}"
    if line["state"] == "found":
        blind = ", ".join(f"{op} ×{n}" for op, n in line["unknown"].items()) or "-"
        kinds = " ".join(f"{k[:2]}={n}" for k, n in line["count"].items())
        how = f"{line['route']}, {line['size']}"
        return f"{start} {line['seconds']:6.1f} s  {how:16s} {kinds}  {blind}"
    return f"{start} {line['state']}: {line['reason']}"


def main() -> None:
    """Prints the table and the summary."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kinds", nargs="*", help="model types of transformers; all when none is given")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds an architecture may take")
    parser.add_argument("--workers", type=int, default=1, help="architectures at a time")
    parser.add_argument("--null-space", action="store_true", help="measure null spaces, too")
    parser.add_argument("--null-limit", type=float, default=900.0, help="seconds that a null space may take")
    parser.add_argument("--lines", help="append every answer to this file; leave out what it has")
    parser.add_argument("--again", action="store_true", help="repeat what the file has, but was not measured")
    parser.add_argument("--page", help="write the table in Markdown to this file")
    parser.add_argument("--from-page", help="take what the lines have not from this page")
    parser.add_argument("--only-page", action="store_true", help="run nothing, write the page of the lines")
    parser.add_argument("--json", help="write everything to this file too")
    arguments = parser.parse_args()
    import torch
    import transformers

    import neuralmechanics  # noqa: F401 - loaded once, before the processes are forked

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    if arguments.null_space:
        import null_spaces  # noqa: F401 - likewise
        from transformers import LlamaForCausalLM  # noqa: F401 - what all models import takes longer than many searches
    earlier = answers_in(Path(arguments.from_page).read_text(encoding="utf-8")) if arguments.from_page else {}
    found = {
        kind: answer | earlier.get(kind, {}) | answer for kind, answer in (earlier | written(arguments.lines)).items()
    }
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    cases = [case for case in architectures() if not arguments.kinds or case[0] in arguments.kinds]
    tasks = [("state", look, arguments.limit)]
    tasks += [("null space", null_space, arguments.null_limit)] if arguments.null_space else []
    for entry, task, limit in [] if arguments.only_page else tasks:
        left = [case for case in cases if not _answered(found.get(case[0], {}), entry, arguments.again)]
        for (kind, head, name), answer in answers_of(task, left, limit, arguments.workers):
            line = {"kind": kind, "head": head, "class": name, **versions}
            line |= answer if entry == "state" else {entry: answer}
            found.setdefault(kind, {}).update(line)
            print(told(line), flush=True)
            if arguments.lines:
                with open(arguments.lines, "a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
    found = {kind: answer for kind, answer in found.items() if "state" in answer}
    print(summary(found, transformers.__version__))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)
    if arguments.page:
        Path(arguments.page).write_text(page(list(found.values())), encoding="utf-8")


def summary(answers: dict[str, dict[str, Any]], version: str) -> str:
    """Counts of states, and the operations that remain by the number of architectures that meet them."""
    states = Counter(a["state"] for a in answers.values())
    found = [a for a in answers.values() if a["state"] == "found"]
    remaining: Counter[str] = Counter(op for a in found for op in a["unknown"])
    whole = sum(not a["unknown"] for a in found)
    seconds = sorted(a["seconds"] for a in found)
    median = seconds[len(seconds) // 2] if seconds else 0.0
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, transformers {version}: {len(answers)} architectures; {dict(states)}",
        f"searched {len(found)}, without an unknown operation {whole}; "
        f"median {median} s, slowest {max(seconds, default=0)} s",
        "remaining: " + (", ".join(f"{op} ({n})" for op, n in remaining.most_common()) or "none"),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
