"""Bad inputs by the hundred, each as the words of a command; the files that they name are made in this folder."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from neuralmechanics.experiments.models.zoo import build_model
from neuralmechanics.monitor.store.atomic import publish_json, read_json

Change = Callable[[Path], object]


def broken_runs(run: Path) -> Iterator[list[str]]:
    """`errors` and `report` of a run that was changed in every way that JSON and a folder allow."""
    for number, change in enumerate(_changes(read_json(run / "run.json"))):
        path = Path(shutil.copytree(run, f"broken-{number}"))
        change(path)
        yield ["errors", str(path)]
        yield ["report", str(path), "--out", f"{number}.html"]
    for word in ("", "nul\0byte", "x" * 5000, "/dev/zero", "/dev/null", "file.txt", "pipe", "empty", "/proc/self/mem"):
        yield ["errors", word]
        yield ["report", word]
    yield from (["report", str(run), "--out", out] for out in ("empty", "/proc/nowhere/x.html", "file.txt/x.html"))


def _changes(content: dict[str, Any]) -> Iterator[Change]:
    for key in ("configuration", "origin", "symmetries", "run", "format"):
        yield lambda p, key=key: publish_json(p / "run.json", {k: v for k, v in content.items() if k != key})
    values: list[tuple[str, Any]] = [
        *(("configuration", value) for value in ([], {"monitor": 5}, {"monitor": {}}, {"monitor": {"laws": [5]}})),
        *(("symmetries", value) for value in ({}, [1], {"families": 5}, {"families": [5]}, {"families": []})),
        *(("origin", "text"), ("run", 5), ("run", "another"), ("format", "x"), ("format", [1]), ("format", 99)),
    ]
    for key, value in values:
        yield lambda p, key=key, value=value: publish_json(p / "run.json", {**content, key: value})
    families = (
        lambda f: f.update(terms=[{}]),
        lambda f: f.update(labels=[1, 2]),
        lambda f: f.update(kind=7),
        lambda f: f.update(name=None),
        lambda f: f["terms"][0].update(charges=[10**30]),
        lambda f: f.pop("broken_by"),
    )
    for edit in families:
        changed = json.loads(json.dumps(content))
        edit(changed["symmetries"]["families"][0])
        yield lambda p, changed=changed: publish_json(p / "run.json", changed)
    for text in ("[" * 100_000, "[]", "", '{"crc32": 0, "content": {}}', '{"content": 5}', "\x00"):
        yield lambda p, text=text: (p / "run.json").write_text(text)
    segment = "segment-0000"
    for name in ("run.json", "tally.txt", f"{segment}/segment.json", f"{segment}/start.safetensors"):
        yield lambda p, name=name: _fifo(p / name)
        yield lambda p, name=name: (os.unlink(p / name), os.mkdir(p / name))
    yield lambda p: _fifo(next(p.glob("segment-0000/records-*")))
    yield lambda p: os.symlink("/dev/zero", p / segment / "records-00000010-00000010.safetensors")
    yield lambda p: (shutil.rmtree(p / segment), (p / segment).write_text("x"))
    yield lambda p: [shutil.rmtree(folder) for folder in p.glob("segment-*")]
    yield lambda p: (p / "segment-99999999").mkdir()


def bad_trainings() -> Iterator[list[str]]:
    """`train` with files that are none, and settings that no training has."""
    words = [
        *("[" * 50_000, "a." * 50_000 + "b=1", "x" * (2 << 20), "\0" * 99, "a=", "steps = " + "9" * 5000),
        *(f"steps = {value}" for value in ("0", "-1", "true", "1.5", "'x'", "[1]", str(10**30))),
        *(f"seed = {value}" for value in ("-1", str(2**70), "nan")),
        *(f"epochs = {value}" for value in ("nan", "inf", "0", "1e300", "'x'")),
        *(f"batch_size = {value}" for value in ("0", "true", "1e3")),
        *(f"model = {value}" for value in ("5", "''", "'mlp:'", "':x'", "'.a:b'", "'sys:exit'", "'hf:'", "'hf:empty'")),
        *(f"model = '{name}:make'" for name in ("exits", "fails", "breaks", "none", "forwards", "leaves", "absent")),
        *(
            f"data = {value}"
            for value in ("''", "5", "'mnist'\nimages.root = 'pipe'", "'mnist'\nimages.root = 'empty'")
        ),
        *(f"data = 'folder'\nimages.root = {value}" for value in ("'empty'", "'file.txt'", "'pipe'", "'absent'", "5")),
        *(f"device = {value}" for value in ("''", "'cuda:99'", "'meta'", "5")),
        *(
            f"restore = '{value}'"
            for value in ("pipe", "empty", "/dev/zero", "file.txt", "bad.safetensors", "long.safetensors", "zip.pt")
        ),
        *(f"optimizer.learning_rate = {value}" for value in ("nan", "inf", "0", "-1", "9" * 400, "'x'")),
        *("optimizer = 5", "optimizer.betas = [0.9]", "optimizer.betas = [0.9, 'x']", "optimizer.epsilon = inf"),
        *("optimizer.momentum = 1", "optimizer.nesterov = true", "optimizer.name = 'sgdd'", "loss = 'x'"),
        *("schedule.factor = nan", "schedule.warmup = inf", "schedule.name = 'drops'\nschedule.milestones = [inf]"),
        *("record.every = 0", "record.metrics = 'x'", "record.metrics = [5]", "record.metrics = ['x']"),
        *("checkpoint_every = 7", "images.size = 0", "images.size = 1000000000", "images.root = 'x'"),
    ]
    for number, text in enumerate(words):
        Path(f"train-{number}.toml").write_text(text)
        yield ["train", f"train-{number}.toml", "--out", f"out-{number}"]
    Path("latin.toml").write_bytes(b"\xff\xfe")
    yield from (["train", name] for name in ("latin.toml", "pipe", "empty", "/dev/zero", "absent.toml"))
    yield from (
        ["train", "--steps", "1", "--out", out] for out in ("file.txt", "file.txt/x", "pipe", "/proc/x", "mine")
    )


def bad_sweeps_and_flows() -> Iterator[list[str]]:
    """`sweep` and `flow` with files that describe none."""
    grids = [
        *(
            "",
            "[grid]",
            "grid = 5",
            "base = []\n[grid]\nseed = [1]",
            "out = 5\n[grid]\nseed = [1]",
            "[gird]\nseed = [1]",
        ),
        *(
            f"[grid]\n{line}"
            for line in ("seed = []", "seed = 1", "seed = [-1]", "seed = [[1]]", "seed = [1, 1]", "'' = [1]")
        ),
        *(f"[grid]\n{line}" for line in ("optimizer = [1]", "'a.b.c' = [1]", "'seed.x' = [1]", "sed = [1]")),
        "[grid]\n" + "\n".join(f"a{i} = {list(range(100))}" for i in range(12)),
    ]
    for number, text in enumerate(grids):
        Path(f"sweep-{number}.toml").write_text(text)
        yield ["sweep", f"sweep-{number}.toml", "--backend", "processes"]
    Path("good.toml").write_text("[grid]\nseed = [1]")
    yield ["sweep", "good.toml", "--workers", "0"]
    yield ["sweep", "good.toml", "--backend", "processes", "--address", "x"]
    yield ["sweep", "good.toml", "--out", "file.txt"]
    start = "model = 'mlp'\ninput_shape = [3]\nclasses = 2\nsteps = 2\n"
    lines = [
        *(f"data = '{name}'" for name in ("bad.safetensors", "pipe", "empty", "absent", "/dev/zero")),
        *(f"data = 'batch-{name}.safetensors'" for name in _batches()),
        *(
            "learning_rates = [nan]",
            "learning_rates = [-1.0]",
            "seed = -1",
            f"seed = {2**65}",
            "step = 1",
            "method = 'x'",
        ),
        *(
            f"optimizer.{line}"
            for line in ("learning_rate = -1", "learning_rate = nan", "momentum = 2", "weight_decay = -1")
        ),
        *(
            "optimizer = {name = 'rmsprop', smoothing = nan}",
            "optimizer = {name = 'adam', betas = [0.9, 1.5]}",
            "[" * 9999,
        ),
    ]
    texts = [start + line for line in lines]
    texts += [start.replace("[3]", value) for value in ("[]", "[0]", "3", "[-1]", "['x']", "[1000000000000]")]
    texts += [start.replace("'mlp'", value) for value in ("'nope'", "'exits:make'", "5")]
    for number, text in enumerate(texts):
        Path(f"flow-{number}.toml").write_text(text)
        yield ["flow", f"flow-{number}.toml", "--out", "flows"]


def _batches() -> tuple[str, ...]:
    inputs, long = torch.zeros(2, 3), torch.tensor([0, 1])
    batches = {
        "float": (inputs, torch.zeros(2)),
        "outside": (inputs, torch.tensor([5, -1])),
        "none": (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)),
        "nan": (torch.full((2, 3), float("nan")), long),
        "lengths": (inputs, torch.tensor([0, 1, 1])),
        "complex": (inputs + 0j, long),
        "scalar": (torch.tensor(1.0), torch.tensor(0)),
    }
    for name, (x, y) in batches.items():
        save_file({"inputs": x, "targets": y}, f"batch-{name}.safetensors")
    save_file({"inputs": inputs}, "batch-alone.safetensors")
    return (*batches, "alone")


def bad_looks() -> Iterator[list[str]]:
    """`find`, `check`, `count`, `figures`, and words that are no command."""
    options = [
        *(["--input-shape", value] for value in ("0", "-1", "x", "1000000000000")),
        *(["--input-shape", "3", "--classes", value] for value in ("0", "-1", "nan", "1000000000000000")),
        *(["--seed", "-1"], ["--batch-size", "0"], ["--data", "nope"], ["--images.root", "x"], ["--classes", "3"]),
        *(
            ["--tokens", "True"],
            ["--loss", "x"],
            ["--images.size", "-1"],
            ["--input-shape", "3", "--batch-size", "10" + "0" * 15],
        ),
    ]
    yield from (["find", "mlp", *words] for words in options)
    yield from (["find", word] for word in ("", "\x1b[31m", "hf:../..", "hf:GPT2", "exits:make", "sys:path"))
    yield from (["check", "mlp", "--batches", "0"], ["count", "exits:make"], ["lint", "mlp", "--optimizer.name", "x"])
    yield from (["figures", "fig3", "--out", "file.txt"], ["figures", "fig99"], ["figures", ""])
    yield from (
        ["demo", "--out", "file.txt"],
        ["\x1b]0;evil\x07"],
        ["errors"],
        ["train", "--nope"],
        ["find", "mlp", "mlp"],
    )


def bad_weights() -> Iterator[list[str]]:
    """Every command that reads weights, with files that are none of this model's."""
    model = ["mlp-bn", "--input-shape", "3", "8", "8", "--classes", "4"]
    names = [f"{fault}.safetensors" for fault in STATE_FAULTS]
    names += ["absent.safetensors", "bad.safetensors", "long.safetensors", "text.pt", "zip.pt", "list.pt", "runs.pt"]
    names += ["file.txt", "empty", "outside", "deep", "gone", "nonsense", "pipe", "pipe.safetensors", "/dev/zero", "."]
    for name in names:
        if name != "stranger.safetensors":  # kept as it is, which is said
            yield ["rewrite", *model, "--fold", "--in", name, "--out", "written.safetensors"]
        yield ["equivalent", *model, "good.safetensors", name]
        yield ["align", *model, "good.safetensors", name, "--out", "written.safetensors"]
    for words in (
        [], ["--smooth", "nan"], ["--smooth", "7"], ["--smooth", "-1"], ["--rotate", "hadamar"], ["--equalise", "l3"],
        ["--fold", "--out", "/proc/written.safetensors"], ["--fold", "--out", "good.safetensors"],
        ["--fold", "--out", "written.txt"],
    ):  # fmt: skip
        yield ["rewrite", *model, *words]
    source = ["--fold", "--in", "good.safetensors"]
    for words in (
        [*source, "--out", ""], ["--fold", "--in", ""], [*source, "--out", "good.safetensors/written.safetensors"],
        ["--smooth", "inf"], ["--permute", "--seed", str(2**70)], ["--smooth", "0.5", "--in", "mixed.safetensors"],
        ["--smooth", "0.5", "--in", "eight-bits.safetensors"], ["--permute", "--in", "mixed.safetensors"],
    ):  # fmt: skip
        yield ["rewrite", *model, *words]
    for value in ("nan", "-1", "1", "inf", "x"):
        yield ["equivalent", *model, "good.safetensors", "good.safetensors", "--tolerance", value]
    for out in ("absent/map.json", "file.txt/map.json", "good.safetensors", "."):
        yield ["map", *model, "--out", out]
    for out in ("/proc/written.safetensors", "good.safetensors", "written.txt"):
        yield ["align", *model, "good.safetensors", "good.safetensors", "--out", out]
    yield ["map", "mlp-bx", *model[1:]]
    yield ["map", *model, "--for", "gptq"]
    for command in ("budget", "forecast", "findings"):
        yield from ([command, place] for place in ("absent", "empty", "file.txt", "/dev/zero", "pipe"))
    yield ["compare", "empty", "absent"]
    yield ["compare", "empty"]


def _changed(change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: {name: change(value) if name == "head.weight" else value for name, value in state.items()}


STATE_FAULTS: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "nan": _changed(lambda value: value * torch.nan),
    "infinite": _changed(lambda value: value + torch.inf),
    "shape": _changed(lambda value: value.new_zeros(3, 3)),
    "integers": _changed(lambda value: value.to(torch.int32)),
    "complex": _changed(lambda value: value.to(torch.complex64)),
    "huge": _changed(lambda value: value.double() * 1e300),
    "eight-bits": _changed(lambda value: value.to(torch.float8_e4m3fn)),
    "less": lambda state: {name: value for name, value in state.items() if name != "head.weight"},
    "stranger": lambda state: state | {"stranger": torch.ones(3)},
}


class _Runs:
    """A pickle that would make a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


def make_weights() -> None:
    """The good file, and those that are wrong each in its own way."""
    state = build_model("mlp-bn", input_shape=(3, 8, 8), classes=4).state_dict()
    save_file(state, "good.safetensors")
    for fault, change in STATE_FAULTS.items():
        save_file(change(dict(state)), f"{fault}.safetensors")
    # equal to the good ones up to rounding: a fault for who runs the model alone
    save_file(_changed(lambda value: value.bfloat16())(dict(state)), "mixed.safetensors")
    Path("text.pt").write_text("hello")
    torch.save([1, 2], "list.pt")
    torch.save({"a": _Runs()}, "runs.pt")
    os.mkfifo("pipe.safetensors")
    indices = {
        "outside": json.dumps({"weight_map": {"head.weight": "../good.safetensors"}}),
        "deep": "[" * 100_000,
        "gone": json.dumps({"weight_map": {"head.weight": "gone.safetensors"}}),
    }
    for folder, index in indices.items():
        os.mkdir(folder)
        Path(folder, "model.safetensors.index.json").write_text(index)
    os.mkdir("nonsense")
    Path("nonsense/model.safetensors").write_bytes(b"nonsense")


def make_files() -> None:
    """What the commands above name."""
    Path("file.txt").write_text("x")
    os.mkdir("empty")
    os.mkfifo("pipe")
    os.mkdir("mine")
    Path("mine/thesis.tex").write_text("x")
    Path("bad.safetensors").write_bytes(b"\xff" * 20)
    Path("long.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    Path("zip.pt").write_bytes(b"PK\x03\x04" + b"x" * 50)
    Path("exits.py").write_text("import sys\nsys.exit(5)")
    Path("fails.py").write_text("def make(): return {}['x']")
    Path("breaks.py").write_text("def :")
    Path("none.py").write_text("def make(): return None")
    Path("leaves.py").write_text("def make(): raise SystemExit(3)")
    Path("forwards.py").write_text(
        "from torch import nn\nclass M(nn.Module):\n    def forward(self, x): return {}['x']\ndef make(): return M()"
    )


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)
