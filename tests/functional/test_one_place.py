"""No other module differentiates twice: every derivative above the first goes through one place."""

from __future__ import annotations

import ast
from pathlib import Path

import neuralmechanics

SOURCE = Path(neuralmechanics.__file__).parent
PLACE = SOURCE / "functional" / "derivatives" / "higher_derivatives.py"
FORWARD = {"jvp", "jacfwd", "hessian", "hvp", "vhp", "make_dual"}


def test_graphs_of_gradients_are_made_in_one_place() -> None:
    makers = []
    for path in sorted(SOURCE.rglob("*.py")):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        makers += [path for call in calls if any(k.arg == "create_graph" for k in call.keywords)]
    assert makers == [PLACE]


def test_forward_mode_and_whole_hessians_are_used_nowhere() -> None:
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in FORWARD:
                owner = ast.unparse(node.value)
                assert not owner.startswith(("torch", "func", "autograd")), f"{path}: {owner}.{node.attr}"
