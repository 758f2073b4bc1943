"""Every causal language model of Transformers, tiny and with random weights, through every rewrite: exact or refused.

``python benchmarks/rewrites_of_transformers.py [architecture …] [--page docs/about/rewrites.md]`` prints one line an
architecture and a summary; this library's networks for images go through, too. An action is *exact* where it changed
tensors and its certificate holds, and the logits were compared once more here, by loading the rewritten tensors into a
copy of the model in float64; *refused* where it did not act and said why. Gains and biases are random, some of the
gains negative. Nothing is downloaded; one process an architecture. ``--lines FILE`` keeps every answer as soon as it is
known, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import copy
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
import coverage_of_transformers as coverage
from processes import answers as answers_of

ACTIONS = ("fold", "rotate", "head", "smooth", "untie", "centre", "permute")
BOUND_CASTS = 1e-6  # of the logits' size, in float64, where a model casts inside; without casts 1e-10 is kept by far
PICTURED = (
    "convnet",
    "convnet-bn",
    "vgg-small",
    "vgg-small-bn",
    "vgg11-bn",
    "resnet18",
    "resnet18-nobn",
    "vit",
)


def causal() -> list[tuple[str, str, str]]:
    """(model type, head, class) of all causal language models."""
    from transformers.models.auto import modeling_auto

    names = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return [(kind, "causal_lm", name if isinstance(name, str) else name[0]) for kind, name in names.items()]


def pictured() -> list[tuple[str, str, str]]:
    """The same of this library's networks for images."""
    return [(name, "images", name) for name in PICTURED]


def picture_model(name: str) -> tuple[Any, Any]:
    """A network for images with random gains, biases and running averages, in evaluation mode, and a batch."""
    import torch

    from neuralmechanics.experiments import build_model

    model = disturbed(build_model(name, input_shape=(3, 32, 32), classes=10))
    draw = torch.Generator().manual_seed(2)
    for part in model.modules():
        if getattr(part, "running_mean", None) is not None:
            part.running_mean.normal_(generator=draw)
            part.running_var.uniform_(0.5, 2.0, generator=draw)
    return model.eval(), torch.randn(2, 3, 32, 32, generator=draw)


def plain_logits(model: Any, batch: Any) -> Any:
    """The logits of a network for images, which takes its batch in its own precision."""
    return model(batch.to(next(model.parameters()).dtype))


def acted(action: str, subject: Any) -> Any:
    """What an action returns; rotations and centring prepare the model first. All look at one capture of the model."""
    from neuralmechanics.rewrite.actions.composing import PLANNERS
    from neuralmechanics.rewrite.actions.preparing import prepared, pruned
    from neuralmechanics.rewrite.actions.untying import untie_pieces

    refused: list[Any] = []
    if action == "rotate":
        subject, refused = prepared(subject)
    if action == "centre":
        subject = subject.after(untie_pieces(subject))
    planner = PLANNERS["rotate" if action == "head" else action]
    settings = {"rotate": {"space": "stream"}, "head": {"space": "head"}}.get(action, {})
    pieces, more = planner(subject, **settings)
    return pruned(subject, pieces).rewritten(pieces, [*refused, *more])


def disturbed(model: Any) -> Any:
    """Gains and biases away from one and zero."""
    import torch

    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:
                noise = torch.randn(parameter.shape, generator=draw)
                parameter.add_(0.7 * noise.to(parameter.dtype))
    return model


def loaded(model: Any, plan: Any) -> Any:
    """A copy of the model with the tensors after the plan, no longer tied where it says so."""
    from torch import nn

    after = copy.deepcopy(model)
    params = plan.apply(model.state_dict())
    for name in plan.untied:
        holder = after.get_submodule(name.rpartition(".")[0])
        last = name.rpartition(".")[2]
        setattr(holder, last, nn.Parameter(getattr(holder, last).detach().clone()))
    after.load_state_dict(params)
    return after


def change(model: Any, plan: Any, batch: Any, logits_of: Any) -> tuple[float, str]:
    """The greatest difference of logits over the greatest logit, in float64 where the model runs so, else as it is."""
    import torch

    for how in ("float64", "own"):
        try:
            with torch.no_grad():
                before = copy.deepcopy(model).double() if how == "float64" else model
                first, second = (logits_of(m, batch).double() for m in (before, loaded(before, plan)))
            return float((first - second).abs().max() / first.abs().max()), how
        except (RuntimeError, TypeError, ValueError) as error:
            if how == "own":
                raise error
    raise AssertionError


def look(kind: str, head: str, name: str) -> dict[str, Any]:
    """One architecture through all actions."""
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if head == "images":
        model, batch = picture_model(name)
        return {"state": "looked at", **through(model, batch, plain_logits)}
    try:
        model, batch = running(head, name)
    except LookupError as error:
        return {"state": "not built", "reason": str(error)}
    return {"state": "looked at", **through(model, batch, coverage.logits_of)}


def running(head: str, name: str) -> tuple[Any, Any]:
    """A tiny model in float64, its gains and biases away from one and zero, with a batch; LookupError with a reason."""
    import torch

    reason = ""
    for attempt in coverage.ATTEMPTS[:2]:
        try:
            model = disturbed(coverage.built(name, attempt).eval())
            if hasattr(model, "set_experts_implementation"):
                model.set_experts_implementation("batched_mm")  # no loop over experts, and it runs in float64
            batch = coverage.batch_for(model, head, "cpu")
            with torch.no_grad():
                coverage.logits_of(model, batch)
        except Exception as error:  # noqa: BLE001 - the next attempt, or the reason in the table
            reason = reason or f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:160]
        else:
            return model, batch
    raise LookupError(reason)


def through(model: Any, batch: Any, logits_of: Any) -> dict[str, Any]:
    """All actions on one capture of a model."""
    from neuralmechanics.rewrite.actions.looking.subject import Subject

    subject = Subject(model, batch, logits_of)
    return {"actions": {action: tried(action, subject) for action in ACTIONS}}


def tried(action: str, subject: Any) -> dict[str, Any]:
    """What one action does."""
    from neuralmechanics.rewrite import RewriteError

    start = time.process_time()
    try:
        rewritten = acted(action, subject)
    except RewriteError as error:
        return {"state": "stopped", "reason": str(error)[:400]}
    except Exception as error:  # noqa: BLE001 - counted and printed
        return {"state": "exception", "reason": f"{type(error).__name__}: {error}"[:400]}
    answer: dict[str, Any] = {
        "seconds": round(time.process_time() - start, 1),
        "tensors": len(rewritten.plan.tensors),
        "refused": [str(refusal) for refusal in rewritten.refused],
        "notes": list(rewritten.certificate.notes),
    }
    turned = any("orthogonal" in family for family in rewritten.certificate.family)
    done = turned if action == "rotate" else bool(rewritten.plan.changes)
    if not done:
        return answer | {"state": "refused" if rewritten.refused else "silent"}
    moved, how = change(subject.model, rewritten.plan, subject.batch, subject.loss_fn)
    comparisons = [(c.point, c.precision, c.change, c.bound) for c in rewritten.certificate.comparisons]
    bound = BOUND_CASTS if how == "float64" else rewritten.certificate.comparisons[-1].bound
    state = "exact" if rewritten.certificate.ok and moved <= bound else "changed"
    return answer | {"state": state, "change": moved, "in": how, "comparisons": comparisons}


def main() -> None:
    """Prints the table and the summary."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kinds", nargs="*", help="model types of transformers; all when none is given")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds an architecture may take")
    parser.add_argument("--workers", type=int, default=1, help="architectures at a time")
    parser.add_argument("--lines", help="append every answer to this file; leave out what it has")
    parser.add_argument("--json", help="write everything to this file too")
    parser.add_argument("--page", help="write the table in Markdown to this file")
    arguments = parser.parse_args()
    import torch
    import transformers

    from neuralmechanics import rewrite  # noqa: F401 - loaded once, before the processes are forked

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    answers = coverage.written(arguments.lines)
    cases = [case for case in [*causal(), *pictured()] if not arguments.kinds or case[0] in arguments.kinds]
    cases = [case for case in cases if case[0] not in answers]
    for (kind, _, _), answer in answers_of(look, cases, arguments.limit, arguments.workers):
        answers[kind] = answer
        if arguments.lines:
            with open(arguments.lines, "a", encoding="utf-8") as file:
                file.write(json.dumps({"kind": kind, **answer}) + "\n")
        if answer["state"] != "looked at":
            print(f"{kind:28s} {answer['state']}: {answer['reason']}", flush=True)
            continue
        told = "  ".join(f"{action}: {found['state']}" for action, found in answer["actions"].items())
        print(f"{kind:28s} {told}", flush=True)
        for action, found in answer["actions"].items():
            if found["state"] in ("stopped", "exception", "changed", "silent"):
                print(f"    {action}: {found.get('reason', found)}", flush=True)
    told = summary(answers, transformers.__version__)
    print(told)
    if arguments.page:
        Path(arguments.page).write_text(page(answers, told), encoding="utf-8")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(answers, file, indent=1)


def summary(answers: dict[str, dict[str, Any]], version: str) -> str:
    """Counts of states an action, and the greatest change of the logits."""
    looked = [a["actions"] for a in answers.values() if a["state"] == "looked at"]
    fine = sum(all(found["state"] in ("exact", "refused") for found in actions.values()) for actions in looked)
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, transformers {version}: {len(answers)} types, {len(looked)} built; "
        f"every action exact or refused with a reason on {fine}"
    ]
    for action in ACTIONS:
        counts = Counter(actions[action]["state"] for actions in looked)
        exact = [a[action] for a in looked if a[action]["state"] == "exact"]
        changes = [found["change"] for found in exact if found.get("in") == "float64"]
        told = f"; greatest change of the logits {max(changes):.1e}" if len(changes) == len(exact) > 0 else ""
        lines.append(f"{action}: {', '.join(f'{n} {state}' for state, n in counts.most_common())}{told}")
    return "\n".join(lines)


def page(answers: dict[str, dict[str, Any]], told: str) -> str:
    """The table in Markdown: what each action does to each architecture, and what changed by more than it may."""
    head, *counts = told.splitlines()
    lines = [
        "# Rewrites of published architectures",
        "",
        "Made by `python benchmarks/rewrites_of_transformers.py --page`; no number on this page is written by hand.",
        "Each architecture is tiny, with random weights, gains and biases. *exact*: the action changed tensors, its",
        "certificate holds, and logits in float64 were compared once more: they changed by at most "
        f"{BOUND_CASTS:.0e} of their",
        "size, or by the bound of the model's own precision where it does not run in float64; *refused*: it did not",
        "act and said why; *stopped*: the check on the rewritten tensors failed, or could not be made, and nothing was",
        "returned.",
        "",
        f"{head}.",
        "",
        *(f"- {line}" for line in counts),
        "",
        f"| architecture | {' | '.join(ACTIONS)} |",
        f"| --- {'| --- ' * len(ACTIONS)}|",
    ]
    for kind, answer in sorted(answers.items()):
        if answer["state"] != "looked at":
            continue
        lines.append(f"| {kind} | {' | '.join(answer['actions'][action]['state'] for action in ACTIONS)} |")
    missing = [f"{kind} ({a['state']})" for kind, a in sorted(answers.items()) if a["state"] != "looked at"]
    return "\n".join([*lines, "", f"Not looked at: {', '.join(missing) or 'none'}.", ""])


if __name__ == "__main__":
    main()
