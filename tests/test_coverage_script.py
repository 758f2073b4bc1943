"""The parts of the script that holds Transformers' architectures against null spaces: measure, processes, page."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from neuralmechanics.symmetry import Symmetries, find_symmetries

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its frozen dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    return module


class _Words(nn.Module):
    """A table read by two maps in a row, of which the first has a rank lower than its output has channels."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(3, 5)
        self.inner = nn.Linear(5, 4)
        self.outer = nn.Linear(4, 3, bias=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        out: Tensor = self.outer(torch.tanh(self.inner(self.table(input_ids))))
        return out


def _words(generator: torch.Generator) -> tuple[Tensor, ...]:
    return (torch.randint(0, 3, (2, 4), generator=generator),)


def test_what_no_family_explains_is_named_by_what_moves() -> None:
    null_spaces = _module("null_spaces")
    model = null_spaces.idealised(_Words())
    logits = null_spaces.Logits(model, ["input_ids"], lambda m, batch: m(batch["input_ids"]))
    found = find_symmetries(model, {"input_ids": torch.zeros(2, 4, dtype=torch.int64)}, lambda m, b: m(b["input_ids"]))
    answer = null_spaces.compared(logits, _words, found)
    # three words: the logits are three times three numbers, whatever the 15 + 24 + 12 elements are
    assert answer["parameters"] == 51
    assert answer["fibre"][1] == 51 - 9
    assert answer["translations"][0] == answer["translations"][1]
    assert answer["diagonal"][0] == answer["diagonal"][1]
    assert sum(answer["kernels"].values()) == 51 - 9 - answer["fibre"][0] > 0
    # three states of four hidden units: in the one direction that they leave the last map is free
    assert answer["kernels"]["straight: outer.weight"] == 3
    assert answer["false"] == []


def test_a_false_family_is_called_false() -> None:
    null_spaces = _module("null_spaces")
    model = null_spaces.idealised(_Words())
    relu = find_symmetries(
        nn.ModuleDict({"inner": nn.Linear(5, 4), "outer": nn.Linear(4, 3, bias=False)}),
        torch.zeros(2, 5),
        lambda m, x: m["outer"](torch.relu(m["inner"](x))),
    )
    logits = null_spaces.Logits(model, ["input_ids"], lambda m, batch: m(batch["input_ids"]))
    answer = null_spaces.compared(logits, _words, Symmetries(tuple(relu)))
    assert len(answer["false"]) == len(relu) == 1


class _Normed(nn.Module):
    """Words, one of them padding, behind norms that are called with an eps of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 4, padding_idx=1)
        self.inner = nn.Linear(4, 3, bias=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        rows = nn.functional.layer_norm(self.table(input_ids), (4,), None, None, eps=1e-3)
        return nn.functional.rms_norm(self.inner(rows), (3,), eps=1e-3)


def _padded(generator: torch.Generator) -> tuple[Tensor, ...]:
    return (torch.randint(0, 5, (2, 4), generator=generator),)


def test_eps_in_the_code_and_rows_of_padding_are_idealised_alike() -> None:
    null_spaces = _module("null_spaces")
    model = null_spaces.idealised(_Normed())
    logits = null_spaces.Logits(model, ["input_ids"], lambda m, batch: m(batch["input_ids"]))

    def ideal(m: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        with null_spaces.Ideal():
            out: Tensor = m(batch["input_ids"])
        return out

    found = find_symmetries(model, {"input_ids": torch.zeros(2, 4, dtype=torch.int64)}, ideal)
    answer = null_spaces.compared(logits, _padded, found)
    # each row may shift along ones and scale by itself, that of the padding too; each output of the inner map may read
    # the ones that rows are without; the whole inner map may scale
    assert answer["translations"] == [5 + 3, 5 + 3]
    assert answer["diagonal"] == [5 + 1, 5 + 1]
    assert answer["silent"] == {}
    assert answer["false"] == []


class _Rare(nn.Module):
    """A table of words, of which the first data meet few, read through a norm and a map."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(12, 3)
        self.outer = nn.Linear(3, 16, bias=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        out: Tensor = self.outer(nn.functional.rms_norm(self.table(input_ids), (3,), eps=1e-20))
        return out


def test_words_that_only_fresh_data_meet_are_no_rounding() -> None:
    null_spaces = _module("null_spaces")
    logits = null_spaces.Logits(null_spaces.idealised(_Rare()), ["input_ids"], lambda m, batch: m(batch["input_ids"]))
    words = 5
    network = null_spaces.Network("", logits, lambda g: (torch.randint(0, words, (1, 6), generator=g),))
    generator = torch.Generator().manual_seed(0)
    theta = null_spaces.randomise(logits, generator)
    jacobian = null_spaces.jacobian_rows(network, generator, 2 * len(theta))
    words = 12
    none = torch.zeros(len(theta), dtype=torch.bool)
    kernel = null_spaces._settled(network, null_spaces._Measured([theta], [jacobian / jacobian.abs().max()], none), 0)
    assert kernel.dimension == 12 + 3  # each row along itself, and the turns of the three channels
    assert kernel.kept > 1e-6
    assert kernel.dropped < 1e-13


def test_common_kernels_do_not_lose_a_direction_to_rounding() -> None:
    null_spaces = _module("null_spaces")
    generator = torch.Generator().manual_seed(0)
    sizes = 10.0 ** torch.linspace(-5, 0, 40, dtype=torch.float64)
    basis = torch.linalg.qr(torch.randn(40, 12, generator=generator, dtype=torch.float64) / sizes[:, None])[0]
    common = basis[:, :3]
    within = null_spaces._Within(basis, sizes)
    for _ in range(10):  # each sees a few of the twelve more, none the three
        rows = torch.randn(6, 40, generator=generator, dtype=torch.float64) * sizes
        within.add(rows - (rows @ common) @ common.T)
    assert within.dimension == 3
    kept, dropped = within.gap
    assert kept > 1e-6
    assert dropped < 1e-11
    left = within.basis()
    assert float((left - common @ (common.T @ left)).norm()) < 1e-6


def test_a_task_that_hangs_or_dies_costs_itself_alone() -> None:
    program = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from processes import answers
def task(what):
    if what == "dies":
        os._exit(1)
    if what == "raises":
        raise ValueError("no")
    while what == "hangs":
        time.sleep(1)
    return {"state": what}
told = list(answers(task, [("dies",), ("fine",), ("raises",)], 200.0, 2)) + list(answers(task, [("hangs",)], 1.0, 2))
for case, answer in sorted(told, key=lambda pair: pair[0]):
    print(case[0], answer["state"], answer.get("reason", "-"))
"""
    done = subprocess.run([sys.executable, "-c", program, str(BENCHMARKS)], capture_output=True, text=True, timeout=240)
    assert done.stdout.splitlines() == [
        "dies exception the process died",
        "fine fine -",
        "hangs too slow more than 1 s",
        "raises exception ValueError: no",
    ], done.stderr


def test_the_page_tells_found_of_counted() -> None:
    beside = {
        "state": "measured",
        "parameters": 10,
        "translations": [2, 2],
        "diagonal": [1, 3],
        "fibre": [4, 6],
        "clear": True,
        "false": [],
        "unknown": {},
        "kernels": {"straight: a.#.weight + a.#.bias": 2, "curved: a.#.weight + b.weight + c": 5},
    }
    common = {"torch": "2", "transformers": "5", "state": "found", "unknown": {}}
    answers = [
        {"kind": "b", **common, "null space": {"state": "not measured", "reason": "4,000 | parameters"}},
        {"kind": "a", **common, "null space": beside},
    ]
    text = _module("coverage_page").page(answers)
    assert "| a | 10 | 2 | **1** of 3 | **4** of 6 | within one map 2 `#`, across several 5 |" in text
    assert "| measured | 1 |" in text
    assert "is missing in `a`." in text
    assert "| b | all operations known | not measured: 4,000 / parameters |" in text
    assert "| … all translations and diagonal symmetries found | 0 |" in text
