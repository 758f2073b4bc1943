"""What the search answers for many models, written at one commit and compared with what it answers at another.

``python -m tests.symmetry.before_after write DIR [--part zoo|random|transformers]`` writes one file a part into DIR,
one line a network, and goes on where it was stopped. ``python -m tests.symmetry.before_after compare DIR_A DIR_B``
prints every difference in one line. Beside ``to_dict()``, a record holds what the families are as vector fields: for
each parameter, the length of what a fixed vector leaves in the span of the generators at a fixed point. That depends
on no order, on no basis and on no way of writing families down.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import math
import multiprocessing
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neuralmechanics import Family, Symmetries, find_symmetries

from .network import Network
from .random_networks import classical_networks, modern_networks
from .zoo import FULL, SMALL

Case = tuple[nn.Module, Any, Callable[[nn.Module, Any], Tensor] | None]
Build = Callable[[], Case]
Record = dict[str, Any]

SEEDS, EXAMPLES = 10, 12  # random networks: so many of each generator and seed (the first of a seed is the smallest)
LONG = 400  # lists of more numbers are written as a digest
LARGEST = 4_000_000  # elements of a model, or of a matrix of generators, that is evaluated
TOLERANCE = 1e-6  # relative, of lengths in the span


class NotBuiltError(Exception):
    """The model itself cannot be made or run: nothing to compare."""


# --- the networks ---------------------------------------------------------------------------------------------------


def zoo() -> Iterator[tuple[str, Build]]:
    """The hand-picked networks, small and full."""
    for name, make in SMALL.items():
        yield f"small/{name}", lambda make=make: _case(make())
    yield from ((f"full/{name}", make) for name, make in FULL.items())


def _case(network: Network) -> Case:
    return network.module, network.batch(), network.loss_fn


def random_networks() -> Iterator[tuple[str, Build]]:
    """Networks drawn by the generators of the property tests, the same ones at every commit."""
    for kind, strategy in (("classical", classical_networks()), ("modern", modern_networks())):
        for seed in range(SEEDS):
            for number, network in enumerate(_drawn(strategy, seed)):
                yield f"{kind}/{seed}/{number}", lambda network=network: _case(network)


def _drawn(strategy: Any, seed: int) -> list[Network]:
    import hypothesis
    from hypothesis.internal.conjecture import providers

    # Numbers of the source code would enter the draws, which would then differ from commit to commit.
    providers._get_local_constants = lambda: providers.Constants()
    drawn: list[Network] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(network=strategy)
    def draw(network: Network) -> None:
        drawn.append(network)

    torch.manual_seed(seed)
    draw()
    return drawn


def transformers_models() -> Iterator[tuple[str, Build]]:
    """Every configuration of Transformers that the coverage script builds."""
    script = _coverage_script()
    for kind, head, name in script.architectures():
        yield kind, lambda head=head, name=name: _transformer(script, head, name)


def _coverage_script() -> Any:
    path = Path(__file__).parents[2] / "benchmarks" / "coverage_of_transformers.py"
    spec = importlib.util.spec_from_file_location("coverage_of_transformers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _transformer(script: Any, head: str, name: str) -> Case:
    first = ""
    for attempt in script.ATTEMPTS:
        try:
            model = script.built(name, attempt)
            batch = script.batch_for(model, head, "cpu" if attempt != "two layers" else "meta")
            with torch.no_grad():
                script.logits_of(model, batch)
        except Exception as error:  # noqa: BLE001 - the next attempt, or the reason in the record
            first = first or _told(error)
        else:
            return model, batch, script.logits_of
    raise NotBuiltError(first)


PARTS: dict[str, Callable[[], Iterator[tuple[str, Build]]]] = {
    "zoo": zoo,
    "random": random_networks,
    "transformers": transformers_models,
}


# --- what is found --------------------------------------------------------------------------------------------------


def record(build: Build) -> Record:
    """The answer for one network, or the error."""
    torch.manual_seed(0)
    try:
        model, batch, loss_fn = build()
    except NotBuiltError as error:
        return {"state": "not built", "error": str(error)}
    start = time.process_time()
    try:
        found = find_symmetries(model, batch, loss_fn)
    except Exception as error:  # noqa: BLE001 - an error is an answer
        return {"state": "error", "error": _told(error), "seconds": _since(start)}
    seconds = _since(start)
    return {
        "state": "found",
        "seconds": seconds,
        "model": hashlib.sha1(repr(model).encode()).hexdigest()[:12],
        "families": _families(found, model),
        "whole": _whole(found, model),
        "written": _short(_ordered(found.to_dict())),
    }


def _told(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:400]


def _since(start: float) -> float:
    return round(time.process_time() - start, 2)


def _families(found: Symmetries, model: nn.Module) -> dict[str, Record]:
    """What can be said of every family without asking how it is written down, by kind and name."""
    params = _point(model)
    out: dict[str, Record] = {}
    for family in found:
        name = f"{family.kind} {family.name}"
        while name in out:
            name += "'"
        out[name] = {
            "size": family.size,
            "charges": family.charges,
            "labels": _short(sorted(family.labels)),
            "parameters": sorted(family.parameters),
            "broken by": sorted(map(str, family.broken_by)),
            "requires": sorted(family.requires),
            "layer": family.layer,
            "span": _span([family], params) if params else None,
        }
    return out


def _whole(found: Symmetries, model: nn.Module) -> dict[str, float] | None:
    """All families together: the same even where they are cut into families otherwise."""
    params = _point(model)
    if not params or sum(f.size for f in found) * sum(p.numel() for p in params.values()) > LARGEST:
        return None
    return _span(list(found), params)


def _point(model: nn.Module) -> dict[str, Tensor]:
    """A generic point that depends on names and shapes alone; none for a model too large to be evaluated."""
    if sum(p.numel() for p in model.parameters()) > LARGEST:
        return {}
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return {name: _fixed(name, tuple(p.shape)) for name, p in trainable.items()}


@cache
def _fixed(name: str, shape: tuple[int, ...]) -> Tensor:
    seed = int.from_bytes(hashlib.sha1(name.encode()).digest()[:4], "big")
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64) + 0.1


def _span(families: list[Family], params: Mapping[str, Tensor]) -> dict[str, float]:
    """The rank, and for every parameter the length of what a fixed vector leaves in the span of the generators.

    Of too many generators, the default combination stands for each family.
    """
    moved = {name: p for name, p in params.items() if any(name in f.parameters for f in families)}
    if sum(f.size for f in families) * sum(p.numel() for p in params.values()) <= LARGEST:
        columns = [_flat(step, moved) for family in families for step in _steps(family, params)]
    else:
        columns = [_flat(family.generator(params), moved) for family in families]
    columns = [c / c.norm() for c in columns if c.norm() > 0]
    if not columns:
        return {}
    left, sizes, _ = torch.linalg.svd(torch.stack(columns, dim=1), full_matrices=False)
    basis = left[:, sizes > 1e-9 * sizes[0]]
    vector = torch.cat([_fixed(f"{name}, the vector", tuple(p.shape)).flatten() for name, p in moved.items()])
    pieces = (basis @ (basis.T @ vector)).split([p.numel() for p in moved.values()])
    lengths = {name: float(piece.norm()) for name, piece in zip(moved, pieces, strict=True)}
    return {"rank": basis.shape[1]} | {n: float(f"{x:.9g}") for n, x in lengths.items() if x > 1e-9}


def _steps(family: Family, params: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Every generator of the family."""
    shape = family.generator_shape
    for position in range(math.prod(shape)):
        weights = torch.zeros(shape, dtype=torch.float64)
        weights.view(-1)[position] = 1.0
        yield family.generator(params, weights)


def _flat(step: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([step.get(n, torch.zeros_like(p)).detach().double().flatten() for n, p in params.items()])


def _ordered(data: Mapping[str, Any]) -> dict[str, Any]:
    """The plain form with families by name, and with everything that is a set in order."""
    out = dict(data)
    out["families"] = sorted(data["families"], key=lambda f: (f["kind"], f["name"], json.dumps(f, sort_keys=True)))
    out["coverage"] = sorted((dict(c) | {"families": sorted(c["families"])} for c in data["coverage"]), key=_key)
    out["unknown"] = sorted(data["unknown"], key=_key)
    out["notes"] = sorted(data["notes"])
    return out


def _key(entry: Any) -> str:
    return json.dumps(entry, sort_keys=True)


def _short(value: Any) -> Any:
    """The same with long lists replaced by their length and a digest."""
    if isinstance(value, Mapping):
        return {str(name): _short(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        if len(value) > LONG and not any(isinstance(entry, (Mapping, list, tuple)) for entry in value):
            return f"{len(value)} entries, {hashlib.sha1(_key(list(value)).encode()).hexdigest()[:12]}"
        return [_short(entry) for entry in value]
    return value


# --- writing --------------------------------------------------------------------------------------------------------


def write(folder: Path, parts: list[str], limit: float, names: list[str]) -> None:
    """One file a part, one line a network; networks that are there already are passed over."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    find_symmetries(nn.Linear(1, 1), torch.zeros(1, 1))  # what is loaded at first use is loaded before the clock runs
    for part in parts:
        path = folder / f"{part}.jsonl"
        have = set(read(path))
        with path.open("a", encoding="utf-8") as file:
            for name, build in PARTS[part]():
                if name in have or (names and name not in names):
                    continue
                answer = {"network": name} | _apart(build, limit)
                file.write(json.dumps(answer, sort_keys=True) + "\n")
                file.flush()
                print(f"{part} {name}: {answer['state']} {answer.get('seconds', '')}", flush=True)


def read(path: Path) -> dict[str, Record]:
    """The records by network; a line that was cut off while it was written is taken off the file."""
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8")
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        path.write_text(text, encoding="utf-8")
    records = [json.loads(line) for line in text.splitlines()]
    return {r["network"]: r for r in records}


def _apart(build: Build, limit: float) -> Record:
    """The record, made in a process of its own that may use ``limit`` seconds of the processor."""
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    process = context.Process(target=_into, args=(theirs, build, limit))
    process.start()
    theirs.close()
    try:
        return mine.recv() if mine.poll(20 * limit) else {"state": "too slow"}
    except EOFError:
        return {"state": "too slow" if process.exitcode in (None, -24) else "died"}
    finally:
        process.terminate()
        process.join()


def _into(pipe: Connection, build: Build, limit: float) -> None:
    warnings.simplefilter("ignore")
    used = time.process_time()
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used + limit), math.ceil(used + limit) + 1))
    pipe.send(record(build))


# --- comparing ------------------------------------------------------------------------------------------------------


def compare(first: Path, second: Path) -> int:
    """Prints every difference in one line; returns how many networks differ other than in order."""
    differ = 0
    for part in PARTS:
        before, after = (read(folder / f"{part}.jsonl") for folder in (first, second))
        if not before and not after:
            continue
        both = [name for name in before if name in after]
        told = {name: list(differences(before[name], after[name])) for name in both}
        for name in both:
            for line in told[name]:
                print(f"{part} {name}: {line}")
        for side, only in (("first", before.keys() - after.keys()), ("second", after.keys() - before.keys())):
            if only:
                print(f"{part}: {len(only)} networks in the {side} alone: {_cut(', '.join(sorted(only)))}")
        wrong = sum(any(not line.startswith("order") for line in lines) for lines in told.values())
        order = sum(bool(lines) for lines in told.values()) - wrong
        seconds = [sum(r[name].get("seconds", 0.0) for name in both) for r in (before, after)]
        print(
            f"{part}: {len(both)} networks in both, {wrong} differ, {order} in order alone; "
            f"{seconds[0]:.0f} s of the processor before, {seconds[1]:.0f} s after"
        )
        differ += wrong
    return differ


def differences(before: Record, after: Record) -> Iterator[str]:
    """Lines that say how two records of one network differ."""
    if (before["state"], before.get("error")) != (after["state"], after.get("error")):
        yield f"{_state(before)} -> {_state(after)}"
    if before["state"] != "found" or after["state"] != "found":
        return
    if before["model"] != after["model"]:
        yield "the model itself is another"
    lines = [*_family_lines(before["families"], after["families"])]
    lines += [f"all families together: {line}" for line in _span_lines(before["whole"], after["whole"])]
    for field in ("unknown", "coverage", "notes", "capture"):
        lines += _entry_lines(field, before["written"][field], after["written"][field])
    yield from lines
    if not lines:
        yield from _order_lines(before["written"], after["written"])


def _state(record: Record) -> str:
    return f"{record['state']} {record['error']!r}" if "error" in record else str(record["state"])


def _family_lines(before: Mapping[str, Record], after: Mapping[str, Record]) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            yield f"lost family {name} ({before[name]['size']} generators)"
        elif name not in before:
            yield f"new family {name} ({after[name]['size']} generators)"
        else:
            for field, value in before[name].items():
                other = after[name][field]
                if field == "span":
                    yield from (f"family {name}: {line}" for line in _span_lines(value, other))
                elif value != other:
                    yield f"family {name}: {field} {_brief(value, other)}"


def _span_lines(before: Mapping[str, float] | None, after: Mapping[str, float] | None) -> Iterator[str]:
    if before is None or after is None:
        return
    names = [
        name
        for name in sorted(before.keys() | after.keys())
        if not math.isclose(before.get(name, 0.0), after.get(name, 0.0), rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    ]
    if names:
        shown = ", ".join(f"{n} {before.get(n, 0.0):.6g} -> {after.get(n, 0.0):.6g}" for n in names[:3])
        yield f"another span: {shown}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"


def _entry_lines(field: str, before: Any, after: Any) -> Iterator[str]:
    if isinstance(before, Mapping):
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                yield f"{field} {name}: {_brief(before.get(name), after.get(name))}"
        return
    if field == "coverage":
        yield from _coverage_lines(before, after)
        return
    old, new = {_key(e) for e in before}, {_key(e) for e in after}
    yield from (f"lost {field} {entry}" for entry in sorted(old - new))
    yield from (f"new {field} {entry}" for entry in sorted(new - old))


def _coverage_lines(before: Any, after: Any) -> Iterator[str]:
    old, new = ({c["parameter"]: c for c in entries} for entries in (before, after))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            a, b = old.get(name) or {}, new.get(name) or {}
            fields = [f for f in sorted(a.keys() | b.keys()) if a.get(f) != b.get(f)]
            yield f"coverage of {name}: " + "; ".join(f"{f} {_brief(a.get(f), b.get(f))}" for f in fields)


def _order_lines(before: Any, after: Any) -> Iterator[str]:
    """Families that are the same vector fields, written down in another way."""
    for old, new in zip(before["families"], after["families"], strict=True):
        if old != new:
            fields = [f for f in sorted(old.keys() | new.keys()) if old.get(f) != new.get(f)]
            yield f"order or form of {', '.join(fields)} in family {old['kind']} {old['name']}"
    if before["format"] != after["format"]:
        yield f"order or form: format {before['format']} -> {after['format']}"


def _brief(before: Any, after: Any) -> str:
    if isinstance(before, list) and isinstance(after, list):
        lost, new = [x for x in before if x not in after], [x for x in after if x not in before]
        return f"lost {_cut(lost)}, new {_cut(new)}"
    return f"{_cut(before)} -> {_cut(after)}"


def _cut(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) < 240 else f"{text[:240]}…"


def main() -> None:
    """Writes or compares."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write", help="write what is found at this commit")
    writing.add_argument("folder", type=Path)
    writing.add_argument("--part", choices=list(PARTS), action="append", help="all parts when none is given")
    writing.add_argument("--limit", type=float, default=300.0, help="seconds of the processor that a network may take")
    writing.add_argument("--only", nargs="*", default=[], help="names of networks; all when none is given")
    comparing = commands.add_parser("compare", help="print every difference; fails when there is one")
    comparing.add_argument("first", type=Path)
    comparing.add_argument("second", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "write":
        write(arguments.folder, arguments.part or list(PARTS), arguments.limit, arguments.only)
    else:
        sys.exit(compare(arguments.first, arguments.second) > 0)


if __name__ == "__main__":
    main()
