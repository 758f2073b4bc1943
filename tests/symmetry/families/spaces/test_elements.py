"""Elements of the groups: each leaves the output as it is; what is no element of them does not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from neuralmechanics import Symmetries, find_symmetries
from neuralmechanics.symmetry import Element, Space

from .networks import SoftExperts, UNet, prepared, resnet, transformer

Case = tuple[nn.Module, tuple[Tensor, ...]]


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def tokens() -> tuple[Tensor]:
    return (torch.randint(7, (2, 3), generator=torch.Generator().manual_seed(1)),)


class Function(nn.Module):
    """A function without parameters as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def chain(*layers: nn.Module | Callable[[Tensor], Tensor]) -> nn.Module:
    return nn.Sequential(*(x if isinstance(x, nn.Module) else Function(x) for x in layers))


def packed() -> nn.Module:
    """Queries, keys and values from one matrix, three ways of unpacking apart from ``chunk``."""

    def attended(x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = x.reshape(batch, length, 3, 2, 2).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q @ k.transpose(-1, -2)).masked_fill(torch.ones(length, length).triu(1).bool(), float("-inf"))
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, 4)

    return chain(nn.Linear(4, 12), attended, nn.Linear(4, 3))


CASES: dict[str, Callable[[], Case]] = {
    "relu": lambda: (chain(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), (draw(5, 3),)),
    "tanh": lambda: (chain(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), (draw(5, 3),)),
    "sine": lambda: (chain(nn.Linear(3, 4), torch.sin, nn.Linear(4, 2)), (draw(5, 3),)),
    "cosine": lambda: (chain(nn.Linear(3, 4), torch.cos, nn.Linear(4, 2)), (draw(5, 3),)),
    "gelu": lambda: (chain(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)), (draw(5, 3),)),
    "linear": lambda: (chain(nn.Linear(3, 4), nn.Linear(4, 2)), (draw(5, 3),)),
    "squares": lambda: (chain(nn.Linear(3, 4), torch.square, nn.Linear(4, 2)), (draw(5, 3),)),
    "absolute": lambda: (chain(nn.Linear(3, 4), torch.abs, nn.Linear(4, 2)), (draw(5, 3),)),
    "prelu": lambda: (chain(nn.Linear(3, 4), nn.PReLU(4), nn.Linear(4, 2)), (draw(40, 3),)),
    "glu": lambda: (chain(nn.Linear(3, 8), nn.GLU(), nn.Linear(4, 2)), (draw(5, 3),)),
    "layer-norm": lambda: (chain(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)), (draw(5, 3),)),
    "length": lambda: (chain(nn.Linear(3, 4), lambda x: x.square().sum(-1)), (draw(5, 3),)),
    "batch-norm": lambda: (
        chain(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)),
        (draw(6, 3),),
    ),
    "unit-length": lambda: (
        chain(nn.Linear(3, 4), lambda x: nn.functional.normalize(x, dim=1), nn.Linear(4, 2)),
        (draw(5, 3),),
    ),
    "neighbours": lambda: (
        chain(nn.Linear(3, 4), lambda x: (x[:, 1:] - x[:, :-1]).relu(), nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)),
        (draw(40, 3),),
    ),
    "interleaved": lambda: (
        chain(nn.Linear(3, 8), lambda x: x[:, ::2] * torch.relu(x[:, 1::2]), nn.Linear(4, 2)),
        (draw(5, 3),),
    ),
    "shuffled": lambda: (
        chain(nn.Linear(3, 6), lambda x: x.view(-1, 2, 3).mT.reshape(-1, 6), nn.Linear(6, 2)),
        (draw(5, 3),),
    ),
    "grouped-convolution": lambda: (
        chain(nn.Conv1d(2, 6, 3, groups=2), nn.ReLU(), nn.Conv1d(6, 4, 3, groups=2), nn.ReLU(), nn.Conv1d(4, 2, 1)),
        (draw(2, 2, 7),),
    ),
    "concatenated": lambda: (
        chain(nn.Linear(3, 4), lambda x: torch.cat([x[:, :2].relu(), x], 1), nn.Linear(6, 2)),
        (draw(5, 3),),
    ),
    "packed-attention": lambda: (packed(), (draw(2, 3, 4),)),
    "module-attention": lambda: (
        nn.TransformerEncoderLayer(6, 2, 5, 0.0, batch_first=True, norm_first=True),
        (draw(2, 3, 6),),
    ),
    "layer-norm-transformer": lambda: (transformer(nn.LayerNorm), tokens()),
    "rms-norm-transformer": lambda: (transformer(nn.RMSNorm), tokens()),
    "grouped-queries": lambda: (transformer(nn.RMSNorm, 6, 2), tokens()),
    "experts": lambda: (SoftExperts(), (draw(4, 4),)),
    "bottlenecks": lambda: (resnet((2, 1), (2, 3), True), (draw(2, 3, 4, 4),)),
    "diffusion": lambda: (UNet(), (draw(1, 3, 4, 4), draw(1, 6), draw(1, 2, 5))),
}
SMALL = [name for name in CASES if name != "diffusion"]
GROUPS = {
    "relu": ["positive monomial"],
    "tanh": ["signed permutation"],
    "sine": ["signed permutation"],
    "cosine": ["signed permutation"],
    "gelu": ["permutation"],
    "linear": ["general linear"],
    "squares": ["monomial"],
    "absolute": ["monomial"],
    "prelu": ["positive monomial"],
    "glu": ["monomial"],
    "layer-norm": ["ones-preserving orthogonal"],
    "length": ["orthogonal"],
    "batch-norm": ["permutation"],
    "unit-length": ["orthogonal"],
    "neighbours": ["signed permutation"],
    "interleaved": ["positive monomial"],
    "shuffled": ["general linear", "general linear"],
    "packed-attention": ["permutation", "general linear", "general linear"],
}


class Found:
    """A network with random parameters, what was found in it, and its output as a function of parameters."""

    def __init__(self, name: str) -> None:
        model, self.batch = CASES[name]()
        self.model = prepared(model)
        self.symmetries: Symmetries = find_symmetries(self.model, self.batch)
        self.params = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.before = self.output(self.params)

    def output(self, params: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            return functional_call(self.model, params, self.batch)

    def change(self, params: dict[str, Tensor]) -> float:
        return float((self.output(params) - self.before).abs().max() / self.before.abs().max())


found = cache(Found)


@pytest.mark.parametrize("name", GROUPS)
def test_groups(name: str) -> None:
    assert [space.group for space in found(name).symmetries.spaces] == GROUPS[name]


@pytest.mark.parametrize("name", [*SMALL, pytest.param("diffusion", marks=pytest.mark.slow)])
def test_a_random_element_leaves_the_output_unchanged(name: str) -> None:
    case, generator = found(name), torch.Generator().manual_seed(0)
    assert case.symmetries.spaces
    for space in case.symmetries.spaces:
        moved = space.transform(case.params, space.random_element(generator))
        assert case.change(moved) < 1e-9, space
    moved = case.params
    for space in case.symmetries.spaces:  # all of them, one after the other
        moved = space.transform(moved, space.random_element(generator))
    assert case.change(moved) < 1e-8
    assert any(not torch.equal(moved[key], value) for key, value in case.params.items())


def swapped(tensor: Tensor, axis: int, first: int, second: int) -> Tensor:
    """Two entries along a dimension exchanged."""
    order = list(range(tensor.shape[axis]))
    order[first], order[second] = order[second], order[first]
    return tensor.index_select(axis, torch.tensor(order))


def pairs(case: Found) -> Iterator[tuple[str, int]]:
    """Every dimension of more than one entry."""
    for name, value in case.params.items():
        yield from ((name, axis) for axis, n in enumerate(value.shape) if n > 1)


@pytest.mark.parametrize("name", SMALL)
def test_a_transposition_along_one_dimension_alone_changes_the_output(name: str) -> None:
    """But where a space stands along it alone (a matrix that nothing but squares of sums read)."""
    case = found(name)
    alone = {(e.parameter, e.axis) for space in case.symmetries.spaces for e in space.entries if len(space.entries) < 2}
    for parameter, axis in pairs(case):
        if (parameter, axis) not in alone and not (name == "module-attention" and parameter.startswith("norm")):
            moved = case.params | {parameter: swapped(case.params[parameter], axis, 0, 1)}
            assert case.change(moved) > 1e-9 or forgotten(parameter), (parameter, axis)


def forgotten(parameter: str) -> bool:
    """Biases that a norm or a softmax takes away, entry by entry."""
    return parameter.endswith((".bias", "bias_k")) and not parameter.startswith("norm")


@pytest.mark.parametrize("name", SMALL)
def test_no_entry_of_a_permutation_can_be_left_out(name: str) -> None:
    case = found(name)
    for space in case.symmetries.spaces:
        order = torch.arange(space.width).roll(1)
        whole = space.transform(case.params, order)
        assert case.change(whole) < 1e-9
        for parameter in space.parameters:
            if not forgotten(parameter):
                assert case.change(whole | {parameter: case.params[parameter]}) > 1e-9, (space, parameter)


def test_a_permutation_across_heads_is_none() -> None:
    """Channel 0 of head 0 with channel 0 of head 1, wherever they stand."""
    case = found("packed-attention")
    heads = case.symmetries.spaces[0]
    assert heads.width == 2
    moved = dict(case.params)
    for parameter, axis in (("0.weight", 0), ("0.bias", 0), ("2.weight", 1)):
        for start in range(0, moved[parameter].shape[axis], 4):
            moved[parameter] = swapped(moved[parameter], axis, start, start + 2)
    assert case.change(moved) > 1e-4


# --- what is given as an element --------------------------------------------------------------------------------------


def only(name: str) -> tuple[Found, Space]:
    case = found(name)
    (space,) = case.symmetries.spaces
    return case, space


def test_a_signed_permutation_matrix() -> None:
    case, space = only("tanh")
    matrix = torch.tensor([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, -1, 0]], dtype=torch.float64)
    moved = space.transform(case.params, matrix)
    assert torch.equal(moved["0.weight"], matrix @ case.params["0.weight"])
    assert torch.equal(moved["2.weight"], case.params["2.weight"] @ matrix.T)
    assert case.change(moved) < 1e-12


def test_a_positive_monomial_matrix_and_its_inverse() -> None:
    case, space = only("relu")
    matrix = torch.tensor([[0.0, 3, 0, 0], [0.5, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 2]], dtype=torch.float64)
    moved = space.transform(case.params, matrix)
    assert torch.allclose(moved["0.weight"], matrix @ case.params["0.weight"])
    assert torch.allclose(moved["2.weight"], case.params["2.weight"] @ torch.linalg.inv(matrix))
    back = space.transform(moved, torch.linalg.inv(matrix))
    assert all(torch.allclose(back[key], value) for key, value in case.params.items())


def test_a_permutation_moves_gains_and_a_rotation_does_not() -> None:
    case, space = only("layer-norm")
    order = torch.tensor([2, 0, 3, 1])
    moved = space.transform(case.params, order)
    assert torch.equal(moved["1.weight"], case.params["1.weight"][order])
    rotated = space.transform(case.params, space.random_element(torch.Generator().manual_seed(3)).matrix)
    assert torch.equal(rotated["1.weight"], case.params["1.weight"])
    assert case.change(moved) < 1e-12
    assert case.change(rotated) < 1e-12


@pytest.mark.parametrize(
    ("name", "element", "message"),
    [
        ("tanh", torch.tensor([0, 1, 1, 3]), "is no permutation of 4 channels"),
        ("tanh", torch.eye(3, dtype=torch.float64), r"an element of shape \(3, 3\) given"),
        ("tanh", 2 * torch.eye(4, dtype=torch.float64), "has no scales"),
        ("relu", -torch.eye(4, dtype=torch.float64), "has no signs"),
        ("gelu", -torch.eye(4, dtype=torch.float64), "has no signs"),
        ("gelu", torch.ones(4, 4, dtype=torch.float64), "give a permutation of channels"),
        ("length", 2 * torch.eye(4, dtype=torch.float64), "AᵀA = 1"),
        ("layer-norm", -torch.eye(4, dtype=torch.float64), "A·1 = 1"),
        ("linear", torch.ones(4, 4, dtype=torch.float64), "has no inverse"),
    ],
)
def test_what_is_no_element_is_refused(name: str, element: Tensor, message: str) -> None:
    case, space = only(name)
    with pytest.raises(ValueError, match=message):
        space.transform(case.params, element)


def test_an_element_for_each_head() -> None:
    case = found("packed-attention")
    space = case.symmetries.spaces[2]
    assert space.copies_shape == (2,)
    values = space.transform(case.params, torch.tensor([[1, 0], [0, 1]]))  # in the first head alone
    order = torch.tensor([*range(8), 9, 8, 10, 11])
    assert torch.equal(values["0.weight"], case.params["0.weight"][order])
    assert torch.equal(values["2.weight"], case.params["2.weight"][:, [1, 0, 2, 3]])
    assert case.change(values) < 1e-12


def test_running_statistics_move_in_evaluation_mode() -> None:
    model = prepared(chain(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)))
    x = draw(6, 3)
    model(x)
    model.eval()
    (space,) = find_symmetries(model, x).spaces
    assert {e.parameter for e in space.entries if e.buffer} == {"1.running_mean", "1.running_var"}
    state = dict(model.state_dict())
    moved = space.transform(state, torch.tensor([1, 2, 3, 0]))
    assert torch.equal(moved["1.running_mean"], state["1.running_mean"][[1, 2, 3, 0]])
    with torch.no_grad():
        assert torch.allclose(functional_call(model, moved, (x,)), model(x), atol=1e-12)
    with pytest.raises(KeyError, match=r"moves buffer '1.running_mean', which is missing; pass model.state_dict\(\)"):
        space.transform(dict(model.named_parameters()), torch.tensor([1, 2, 3, 0]))


@pytest.mark.parametrize("name", ["rms-norm-transformer", "grouped-convolution", "batch-norm"])
def test_spaces_survive_plain_data(name: str) -> None:
    case = found(name)
    read = Symmetries.from_dict(json.loads(json.dumps(case.symmetries.to_dict())))
    element = [space.random_element(torch.Generator().manual_seed(2)) for space in read.spaces]
    assert [repr(space) for space in read.spaces] == [repr(space) for space in case.symmetries.spaces]
    for before, after, chosen in zip(case.symmetries.spaces, read.spaces, element, strict=True):
        one, other = before.transform(case.params, chosen), after.transform(case.params, chosen)
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_identity() -> None:
    case, space = only("relu")
    assert all(torch.equal(case.params[k], v) for k, v in space.transform(case.params, Element()).items())
