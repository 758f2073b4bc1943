"""The printed program: one line an instruction, the same text for the same model, whatever its width."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neuralmechanics.symmetry import lowered_program
from neuralmechanics.symmetry.families.family import Breaking
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.contraction import Contraction, Window
from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape, Take
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.program import Location
from neuralmechanics.symmetry.program.refusals import Reason

EVERY_PRIMITIVE = """\
parameter w: [4, 3]
unread(w, dim=0, positions=[3])
layer:
  %0: [3, 4] = permute(w, order=[1, 0])  # op
  %1: [12] = reshape(%0)
  %2: [2, 12] = expand(%1)
  %3: [2, 6] = take(%2, dim=1, positions=0:12:2)
  %4: [4, 6] = concatenate(%3, %3, dim=0)
  %5: [4, 8] = pad(%4, dim=1, before=1, after=1)
  %6: [9, 8] = resize(%5)
  %7: [7, 8] = gather(%6, dim=0, index_shape=[7])
  %8: [7, 8] = spread(%7, dim=1, apart=[0])
  %9: [5, 8] = scatter(%8, dim=0)
  #10: [4, 3] = table
  #11: [4, 3] ≥ 0 = power(#10, exponent=2.0)
  %12: [4, 3] = add(w, #11)
  %13: [4, 3] = add(%12, #10, scale=-2.0)
  %14: [4, 3] = add(%13, data [3])
  %15: [4, 3] = scale(%14, factor=0.5)
  %16: [4, 3] = multiply(%15, %12)
  %17: [4] ≡ 0.0 = contract("ai,i->a", %16, 0.0 [3])
  %18: [4, 3] ≥ 0 = homogeneous[relu](%16)
  %19: [4, 3] = add_number(%18, number=-1.0)
  %20: [4, 3] = nonlinear(%19, %18, floor=0.001)
  %21: [4, 3] ≥ 0 = maximum(%20, %18)
  %22: [4, 3] ≥ 0 = noise(%21)
  %23: [4, 3] = select(%22, %20)
  %24: [4, 3] = mask(%23, number=-inf)
  %25: [4, 3, 1] = reshape(%24)
  %26: [2, 4, 2] = contract("ai,yix->ayp; i by x is p (2, 1)", data [2, 3], %25)
  %27: [2, 4] = reduce(%26, dims=[2], keepdim=False, mean=True)
  %28: [2, 1] = extremum(%27, dims=[1], keepdim=True)
  %29: [2] = positions(%27, dims=[1], keepdim=False)
  %30: [2] ≥ 0 = deviation(%27, dims=[1], keepdim=False)
  %31: [2, 2] = pool(%27, dims=[1], linear=True, keeps_constants=True)
  %32: [2, 4] ≥ 0 = exponential(%27)
  %33: [2, 4] = logarithm(%32)
  %34: [2, 3] = order(%27, dim=1)
  %35: [] = ended[loss(target)](%34)
  %36: [2, 4] = normalise(%27, dims=[1], center=True, broken_by="eps 1e-05")
  %37: [2, 4] = softmax(%36, dim=1, log=True)
  pair(%37, first=[0, 1], second=[2, 3])
  %38: [4, 3] = restrict(w)
  %39: [2] = forget(%37, reason="not sought: too hard", hides=True)
  fix(%39, %37)"""


def every_primitive() -> Builder:
    """A program in which each primitive occurs."""
    d = Builder()
    d.cause = Location(3, "op", "layer")
    w = d.parameter("w", (4, 3))
    d._write(p.Unread("w", Take(0, (3,))))
    x = d.view(d.view(d.view(w, Permute((1, 0))), Reshape((12,))), Expand((2, 12)))
    x = d.view(x, Take(1, tuple(range(0, 12, 2))))
    x = d.resized(d.zero_padded(d.cat([x, x], 0), 1, 1, 1), (9, 8))
    d.placed(None, d.spread_along(d.gather(x, 0, (7,), [d.constant((7,))]), 1, (0,)), 0, (5, 8))
    data = d.constant((4, 3), function=Function("result", torch.clone, ("table",)))
    both = d.add(w, d.power(data, 2.0))
    x = d.scaled(d.add(d.add(both, data, -2.0), d.constant((3,))), 0.5)
    x = d.mul(x, both)
    d.contract(x, d.constant((3,), 0.0), Contraction("ai", "i", "a"))
    size = d.homogeneous(x, True, Function("relu", torch.relu))
    x = d.nonlinear(d.add_number(size, -1.0), size, floor=1e-3)
    x = d.masked(d.select(d.noise(d.larger(x, size)), x, (4, 3)), -float("inf"), (4, 3))
    window = Window("i", "x", "p", True, (2, 1), 2)
    x = d.contract(d.constant((2, 3)), d.view(x, Reshape((4, 3, 1))), Contraction("ai", "yix", "ayp", (window,)))
    x = d.reduce(x, (2,), False, True)
    d.extremum(x, (1,), True), d.positions(x, (1,), False), d.deviation(x, (1,), False)
    d.pool(x, (1,), (2, 2), True, True, "mean")
    d.logarithm(d.exponential(x))
    d.ended((), Function("loss", torch.sum, ("target",)), d.ordered(x, 1, (2, 3)))
    x = d.softmax(d.normalise(x, (1,), True, Breaking("eps", 1e-5, "layer")), 1, log=True)
    d.paired(x, (0, 1), (2, 3))
    d._write(p.Restrict(np.eye(4, 3) > 0), w)
    d.fix(d.forget((2,), Reason("not sought", "op at layer", "too hard"), True, x), x)
    return d


def test_every_primitive_has_a_line() -> None:
    program = every_primitive().program()
    used = {type(instruction.primitive).__name__ for instruction in program.instructions}
    assert used == set(p.__all__) - {"Primitive"}
    assert program.to_text() == str(program) == EVERY_PRIMITIVE


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, width), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x)).flip(1))


def text(width: int) -> str:
    return lowered_program(Block(width), torch.zeros(5, 3)).to_text()


def test_lines_stand_below_their_layers_with_operations_and_parameters() -> None:
    assert text(4) == (
        "parameter a.weight: [4, 3]\n"
        "parameter a.bias: [4]\n"
        "parameter b.weight: [2, 4]\n"
        "parameter b.bias: [2]\n"
        "a:\n"
        '  %0: [5, 4] = contract("az,yz->ay", batch [5, 3], a.weight)  # aten.linear\n'
        "  %1: [5, 4] = add(%0, a.bias)\n"
        "relu:\n"
        "  %2: [5, 4] ≥ 0 = homogeneous[relu](%1)  # aten.relu\n"
        "flip:\n"
        "  %3: [5, 4] ≥ 0 = take(%2, dim=1, positions=[3, 2, 1, 0])  # aten.flip\n"
        "b:\n"
        '  %4: [5, 2] = contract("az,yz->ay", %3, b.weight)  # aten.linear\n'
        "  %5: [5, 2] = add(%4, b.bias)\n"
        "  fix(%5)"
    )


def test_wide_tensors_cost_no_longer_lines() -> None:
    narrow, wide = text(16), text(3000)
    assert narrow.count("\n") == wide.count("\n")
    assert max(map(len, wide.splitlines())) < 120
    assert "… 3000 in all" in wide
    assert wide == text(3000)


def test_every_value_is_named_before_it_is_read_and_once() -> None:
    lines = EVERY_PRIMITIVE.splitlines()
    seen: list[str] = []
    for line in lines:
        names = re.findall(r"[%#]\d+", line)
        value = re.match(r"\s+([%#]\d+): ", line)
        read = names[1:] if value else names
        assert set(read) <= set(seen), line
        seen += [value[1]] if value else []
    assert seen == sorted(set(seen), key=lambda name: int(name[1:]))
    assert [int(name[1:]) for name in seen] == list(range(len(seen)))


def test_what_is_not_followed_is_printed_with_the_reason() -> None:
    model = nn.Linear(3, 3)
    printed = lowered_program(
        model, torch.zeros(5, 3), lambda m, x: torch.linalg.eigvalsh(m(x[:3]) + m(x[:3]).T)
    ).to_text()
    assert re.search(r'= forget\(.*reason="unknown"', printed)
    printed = lowered_program(model, torch.zeros(5, 3), lambda m, x: m(x).cumprod(-1)).to_text()
    assert 'reason="not sought: its factors and shifts are not followed"' in printed


def test_a_function_of_named_tensors_has_a_program_too() -> None:
    printed = lowered_program(lambda w, x: x @ w["a"], torch.zeros(5, 3), params={"a": torch.zeros(3, 2)}).to_text()
    assert 'contract("xz,zy->xy", batch [5, 3], a)' in printed


@pytest.mark.parametrize("flag", ["--json", "--per-parameter"])
def test_the_program_is_printed_alone(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    from neuralmechanics.cli import main

    assert main(["find", "mlp-bn", "--program"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("parameter linear1.weight: [")
    assert "norm1:\n" in printed
    assert main(["find", "mlp-bn", "--program", flag]) == 2
    assert "leave out --json and --per-parameter" in capsys.readouterr().err
