"""A capture writes no Python code for its graphs, and what it does to torch for that ends with it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx, nn

from neuralmechanics.symmetry import lowered_program
from neuralmechanics.symmetry.lowering.capture.uncompiled import compiled_when_called
from neuralmechanics.symmetry.lowering.capturing import capture


class Regions(nn.Module):
    """A chain of layers, some of which run without gradients."""

    def __init__(self, layers: int = 6) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            with torch.no_grad():
                beside = layer(x)
            x = layer(x).relu() + beside
        return x


def test_no_code_is_written_for_a_captured_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    own = fx.Graph.python_code

    def counted(graph: fx.Graph, *args: object, **settings: object) -> object:
        written.append(graph)
        return own(graph, *args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(fx.Graph, "python_code", counted)
    captured = capture(Regions(), torch.zeros(2, 3))
    assert captured.route == "export"
    assert written == []


def test_a_changed_graph_is_compiled_when_its_module_is_called() -> None:
    graph = fx.symbolic_trace(nn.Sequential(nn.ReLU()))
    before = fx.GraphModule.recompile
    with compiled_when_called():
        assert fx.GraphModule.recompile is not before
        (node,) = (n for n in graph.graph.nodes if n.op == "call_module")
        with graph.graph.inserting_after(node):
            sine = graph.graph.call_function(torch.sin, (node,))
        node.replace_all_uses_with(sine)
        sine.replace_input_with(sine, node)
        graph.recompile()
        inside = graph(torch.tensor([-1.0, 2.0]))
    torch.testing.assert_close(inside, torch.sin(torch.tensor([0.0, 2.0])))
    torch.testing.assert_close(graph(torch.tensor([3.0])), torch.sin(torch.tensor([3.0])))
    assert "sin" in graph.code
    assert fx.GraphModule.recompile is before


def test_the_first_of_two_captures_at_once_puts_torch_back() -> None:
    before = fx.GraphModule.recompile
    outer, inner = compiled_when_called(), compiled_when_called()
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert fx.GraphModule.recompile is before
    inner.__exit__(None, None, None)
    assert fx.GraphModule.recompile is before


def test_torch_is_put_back_after_an_error() -> None:
    before = fx.GraphModule.recompile
    with pytest.raises(ZeroDivisionError), compiled_when_called():
        raise ZeroDivisionError
    assert fx.GraphModule.recompile is before


def test_inputs_keep_their_names_where_a_constant_is_lifted() -> None:
    """Torch reads them off the arguments of a module whose code is not there yet."""

    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(2, 3)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.a(tokens) * torch.tensor([1.0, 1.0, 0.5])

    text = lowered_program(Weighted(), torch.randn(4, 2)).to_text()
    assert "batch [4, 2]" in text
    assert "args" not in text
