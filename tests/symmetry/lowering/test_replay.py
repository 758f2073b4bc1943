"""What was captured is what the model does: a graph that gives other values or gradients is refused."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import Symmetries, find_symmetries
from neuralmechanics.functional.calling import Whole
from neuralmechanics.symmetry.lowering import capturing
from neuralmechanics.symmetry.lowering.capture import tracing
from neuralmechanics.symmetry.lowering.capture.exporting import exported
from neuralmechanics.symmetry.lowering.replay import Replayed, comparing, replayed
from neuralmechanics.symmetry.lowering.replay.graph_run import Conversion, run_graph
from neuralmechanics.symmetry.lowering.rules.gradients import NO_GRADIENT

Loss = Callable[[Any, Any], Tensor]


def total(symmetries: Symmetries) -> int:
    return sum(symmetries.count().values())


class Cache(nn.Module):
    """A key/value cache: a plain tensor that the module keeps, written into and read back through slices."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.cache = nn.Linear(3, 4), nn.Linear(4, 2), torch.zeros(8, 5, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.cache = self.cache.to(x)
        self.cache[: len(x), : x.shape[1]] = self.a(x)
        return self.b(torch.tanh(self.cache[: len(x), : x.shape[1]]))


class Written(nn.Module):
    """Rows of a tensor made in the run are written, beside a branch that only data decide."""

    def __init__(self, act: Callable[[Tensor], Tensor] = torch.tanh) -> None:
        super().__init__()
        self.a, self.b, self.act = nn.Linear(3, 4), nn.Linear(4, 2), act

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 1e9:
            x = x * 2
        y = x.new_zeros(x.shape[0], x.shape[1], 4)
        y[:, 1:] = self.a(x)[:, 1:]
        return self.b(self.act(y))


def test_a_write_into_a_cache_is_followed() -> None:
    assert total(find_symmetries(Cache(), (torch.randn(2, 3, 3),))) == 0


def test_a_write_beside_a_branch_is_followed() -> None:
    assert total(find_symmetries(Written(), (torch.randn(2, 3, 3),))) == 0
    assert find_symmetries(Written(torch.relu), (torch.randn(2, 3, 3),)).count()["rescale"] == 4


@pytest.mark.parametrize("make", [Cache, Written])
def test_without_the_functional_form_the_replay_refuses(
    make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old tracing behind the replay: 16 translations and 10 linear charges that a tanh forbids, refused."""
    monkeypatch.setattr(tracing, "needs_functional_form", lambda graph: False)
    with pytest.raises(ValueError, match=r"no captured graph does the same.*differs by"):
        find_symmetries(make(), (torch.randn(2, 3, 3),))


def penalty(model: Any, x: Tensor) -> Tensor:
    z = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(model(z).sum(), z, create_graph=True)
    return (g.norm(dim=1) - 1).square().mean()


def critic(act: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), act, nn.Linear(8, 1)).double()


def residuals(model: nn.Module, batch: Any, loss_fn: Loss, symmetries: Symmetries) -> float:
    """The greatest |⟨g, ξ⟩| of all families, in units of |g||ξ|."""
    params = dict(model.named_parameters())
    found = torch.autograd.grad(loss_fn(model, batch), list(params.values()), allow_unused=True)
    gradient = {name: g for name, g in zip(params, found, strict=True) if g is not None}
    size = torch.stack([g.norm() for g in gradient.values()]).norm()
    worst = 0.0
    for family in symmetries:
        xi = family.generator({name: p.detach() for name, p in params.items()})
        along = sum(float((gradient[name] * v).sum()) for name, v in xi.items() if name in gradient)
        scale = float(size) * float(torch.stack([v.norm() for v in xi.values()]).norm())
        worst = max(worst, abs(along) / scale)
    return worst


class SquaredReLU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x).square()


@pytest.mark.parametrize(
    ("act", "rescale"),
    [
        (nn.LeakyReLU(0.2), 8),
        (nn.ReLU(), 8),
        (SquaredReLU(), 8),
        (nn.Tanh(), 0),
        (nn.GELU(), 0),
        (nn.SiLU(), 0),
        (nn.Softplus(), 0),
        (nn.ELU(), 0),
    ],
)
def test_a_loss_that_differentiates_inside_keeps_what_is_true(act: nn.Module, rescale: int) -> None:
    """The last bias is free of the slope; each unit rescales where its activation is homogeneous; nothing else."""
    model, x = critic(act), torch.randn(9, 3).double()
    symmetries = find_symmetries(model, x, penalty)
    assert symmetries.count() == {"translation": 1, "scale": 0, "rescale": rescale, "linear": 0}
    assert not symmetries.unknown
    assert residuals(model, x, penalty, symmetries) < 1e-14
    params = {name: p.detach() for name, p in model.named_parameters()}
    before = penalty(model, x)
    for family in symmetries:
        amount = torch.linspace(0.5, 2.0, family.size, dtype=torch.float64)
        moved = family.transform(params, amount)
        after = penalty(lambda z, moved=moved: torch.func.functional_call(model, moved, (z,)), x)
        torch.testing.assert_close(after, before, rtol=1e-13, atol=0)


def test_without_the_route_below_autograd_the_replay_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capturing, "ROUTES", {"export": exported, "tracing": tracing.traced})
    with pytest.raises(ValueError, match=r"by tracing: the graph holds .* as a constant"):
        find_symmetries(critic(nn.LeakyReLU(0.2)), torch.randn(9, 3).double(), penalty)


def test_a_slope_beside_the_loss_leaves_only_what_both_allow() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    batch = torch.randn(12, 5), torch.randint(3, (12,))

    def loss(model: Any, batch: Any) -> Tensor:
        z = batch[0].detach().requires_grad_(True)
        out = model(z)
        (g,) = torch.autograd.grad(out.sum(), z, create_graph=True)
        return nn.functional.cross_entropy(out, batch[1]) + g.pow(2).sum(1).mean()

    symmetries = find_symmetries(net, batch, loss)
    assert symmetries.count() == {"translation": 1, "scale": 0, "rescale": 4, "linear": 0}
    assert residuals(net, batch, loss, symmetries) < 1e-6


def test_the_parameters_own_gradients_in_the_loss_are_followed() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double(), torch.randn(9, 3).double()

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        value = model(batch).square().mean()
        gradients = torch.autograd.grad(value, list(model.parameters()), create_graph=True)
        return value + 0.1 * torch.stack([g.square().sum() for g in gradients]).sum()

    assert total(find_symmetries(model, x, loss)) == 0  # the size of a gradient sees every rescaling


class InNumpy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.from_numpy(np.maximum(x.detach().numpy(), 0))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * (ctx.saved_tensors[0] > 0)


class ShapeOnly(torch.autograd.Function):
    """A kernel wrapper with the usual branch for tensors that have no content."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        from torch._subclasses import FakeTensor

        ctx.save_for_backward(x)
        out = torch.empty_like(x)
        if not isinstance(x, FakeTensor):
            out.copy_(torch.from_numpy(x.detach().numpy().clip(0)))
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * (ctx.saved_tensors[0] > 0)


class WrongBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.relu()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * (3 * ctx.saved_tensors[0]).sigmoid()


bound_before = InNumpy.apply


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (lambda x: InNumpy.apply(x), "InNumpy.apply"),
        (lambda x: bound_before(x), "InNumpy.apply"),
        (lambda x: ShapeOnly.apply(x), "ShapeOnly.apply"),
        (lambda x: WrongBackward.apply(x), "WrongBackward.apply"),
    ],
)
def test_a_function_outside_torch_is_unknown_by_name(step: Callable[[Tensor], Tensor], name: str) -> None:
    class Layer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return step(x)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), Layer(), nn.Linear(8, 4))
    batch = torch.randn(16, 5), torch.randint(4, (16,))
    symmetries = find_symmetries(model, batch, lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]))
    assert [str(u) for u in symmetries.unknown] == [f"{name} at 1"]
    assert {c.parameter: c.status for c in symmetries.coverage} == {
        "0.weight": "unknown", "0.bias": "unknown", "2.weight": "covered", "2.bias": "covered",
    }  # fmt: skip
    assert symmetries.count() == {"translation": 9, "scale": 0, "rescale": 0, "linear": 0}  # the head under softmax


def test_a_right_function_of_ones_own_is_followed() -> None:
    class Halved(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x.relu() / 2

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            return g * (ctx.saved_tensors[0] > 0) / 2

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(Halved.apply(self.a(x)))

    symmetries = find_symmetries(Net(), torch.randn(6, 5))
    assert symmetries.count()["rescale"] == 8
    assert not symmetries.unknown


def test_a_hook_that_changes_gradients_is_refused() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x) * 1
            if h.requires_grad:
                h.register_hook(lambda g: g.clamp(-0.05, 0.05))
            return self.b(h.relu())

    with pytest.raises(ValueError, match=r"the gradient of a\.weight differs"):
        find_symmetries(Net(), torch.randn(6, 5))


def test_a_model_that_does_not_run_is_said_not_to_run() -> None:
    with pytest.raises(ValueError, match=r"Linear does not run on the given batch: mat1 and mat2 shapes"):
        find_symmetries(nn.Linear(3, 4), torch.randn(2, 5))


def _planted(change: Callable[[Any, Any], bool]) -> Replayed:
    """A captured graph with one fault, beside its model."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.LayerNorm(6), nn.Linear(6, 2))
    whole, batch = Whole(model, None), torch.randn(4, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        captured = exported(whole, batch, NO_GRADIENT)
    assert replayed(captured, whole, batch) == Replayed()
    changed = [node for node in list(captured.graph.nodes) if change(captured.graph, node)]
    assert changed
    return replayed(captured, whole, batch)


def _renamed(before: str, after: Any) -> Callable[[Any, Any], bool]:
    def change(graph: Any, node: Any) -> bool:
        if not str(node.target).startswith(before):
            return False
        node.target = after
        return True

    return change


def _without_bias(graph: Any, node: Any) -> bool:
    if not str(node.target).startswith("aten.linear"):
        return False
    node.args = node.args[:2]
    return True


def _other_eps(graph: Any, node: Any) -> bool:
    if not str(node.target).startswith("aten.layer_norm"):
        return False
    node.args = (*node.args[:4], 1e-4)
    return True


def _detached(graph: Any, node: Any) -> bool:
    if not str(node.target).startswith("aten.relu"):
        return False
    with graph.inserting_before(node):
        node.replace_input_with(node.args[0], graph.call_function(torch.ops.aten.detach.default, (node.args[0],)))
    return True


@pytest.mark.parametrize(
    "change",
    [
        _renamed("aten.relu", torch.ops.aten.tanh.default),
        _renamed("aten.relu", torch.ops.aten.abs.default),
        _without_bias,
        _other_eps,
        _detached,
    ],
)
def test_a_fault_in_the_graph_is_a_difference(change: Callable[[Any, Any], bool]) -> None:
    assert "differs by" in _planted(change).difference


def test_a_constant_made_from_a_parameter_is_no_data() -> None:
    """A number that is read off a weight is a constant of the graph alone."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.relu(self.a(x)) / float(self.a.weight.detach().numpy().max()))

    with pytest.raises(ValueError, match="no captured graph does the same"):
        find_symmetries(Net(), torch.randn(6, 5))


def test_on_the_meta_device_small_models_are_replayed_and_large_ones_are_said_not_to_be() -> None:
    small = nn.Sequential(nn.Linear(3, 6, device="meta"), nn.ReLU(), nn.Linear(6, 2, device="meta"))
    found = find_symmetries(small, torch.zeros(4, 3, device="meta"))
    assert found.count()["rescale"] == 6
    assert not any("not replayed" in note for note in found.notes)
    large = nn.Sequential(nn.Linear(2048, 1024, device="meta"), nn.ReLU(), nn.Linear(1024, 2, device="meta"))
    found = find_symmetries(large, torch.zeros(4, 2048, device="meta"))
    assert found.count()["rescale"] == 1024
    assert found.notes == ("not replayed beside the model: the model is on the meta device",)


def test_the_replay_leaves_weights_and_buffers_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    before = copy.deepcopy(model.state_dict())
    find_symmetries(model, torch.randn(5, 3, 4, 4))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_large_images_are_cut_before_they_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    run = comparing.model_evaluated

    def recorded(whole: Whole, point: Any, **options: bool) -> Any:
        seen.append(tuple(point.batch.shape))
        return run(whole, point, **options)

    monkeypatch.setattr(comparing, "model_evaluated", recorded)

    class Net(nn.Module):
        def __init__(self, pools: int) -> None:
            super().__init__()
            self.a, self.b, self.pools = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 2), pools

        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(self.a(x))
            for _ in range(self.pools):
                h = nn.functional.max_pool2d(h, 2)
            return self.b(h.mean((2, 3)))

    for pools, side in ((0, 16), (5, 32)):
        seen.clear()
        assert find_symmetries(Net(pools), torch.randn(16, 3, 160, 160)).count()["rescale"] == 4
        assert seen[-1] == (4, 3, side, side)
        assert (16, 3, 160, 160) not in seen


def _network() -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)).double(), torch.randn(9, 3).double()


def test_a_loss_that_holds_the_parameters_itself_is_followed() -> None:
    """A penalty on a list of parameters made beforehand: torch.export takes them for constants."""
    model, x = _network()
    params = list(model.parameters())

    def penalised(model: Any, batch: Tensor) -> Tensor:
        value = model(batch).square().mean()
        return value + 0.01 * torch.stack([p.square().sum() for p in params]).sum()

    assert total(find_symmetries(model, x, penalised)) == 0

    def normalised(model: Any, batch: Tensor) -> Tensor:
        return (model(batch) / params[0].norm()).square().mean()

    symmetries = find_symmetries(model, x, normalised)
    assert symmetries.count() == {"translation": 0, "scale": 1, "rescale": 0, "linear": 0}
    assert residuals(model, x, normalised, symmetries) < 1e-14


def test_a_loss_that_reads_the_parameters_outside_torch_is_refused() -> None:
    model, x = _network()
    params = list(model.parameters())

    def loss(model: Any, batch: Tensor) -> Tensor:
        return model(batch).square().mean() + sum(float(np.square(p.detach().numpy()).sum()) for p in params)

    with pytest.raises(ValueError, match="no captured graph does the same"):
        find_symmetries(model, x, loss)


@pytest.mark.parametrize("draw", [random.random, np.random.rand, lambda: torch.rand(()), lambda: torch.rand(()).item()])
def test_a_branch_that_chance_decides_is_refused(draw: Callable[[], Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(self.a(x))
            if draw() < 0.5:
                h = h + torch.tanh(self.b(h))
            return self.c(h)

    with pytest.raises(ValueError, match="no captured graph does the same"):
        find_symmetries(Net(), torch.randn(5, 3))


def test_random_masks_and_noise_are_no_branch() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.rand_like(x)

    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Dropout(0.5), Noisy(), nn.Linear(6, 2))
    assert find_symmetries(model, torch.randn(5, 3)).count()["rescale"] == 6


def test_parameters_that_share_memory_must_be_one() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = nn.Parameter(model[0].weight.data)
    with pytest.raises(ValueError, match=r"'0.weight' and '2.weight' share memory without being one parameter"):
        find_symmetries(model, torch.randn(3, 4))
    model[2].weight = model[0].weight
    assert find_symmetries(model, torch.randn(3, 4)).capture["tied"] == {"2.weight": "0.weight"}


def test_views_of_one_flat_memory_are_separate_parameters() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4))
    flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    start = 0
    for p in model.parameters():
        p.data = flat[start : start + p.numel()].view_as(p)
        start += p.numel()
    assert find_symmetries(model, torch.randn(3, 4)).count()["rescale"] == 5


def test_sparse_gradients_and_sparse_data_are_compared() -> None:
    table = nn.Sequential(nn.Embedding(7, 4, sparse=True), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    assert find_symmetries(table, torch.randint(7, (5,))).count()["rescale"] == 3

    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, adjacency: Tensor, x: Tensor) -> Tensor:
            return self.b(torch.relu(torch.sparse.mm(adjacency, self.a(x))))

    found = find_symmetries(Graph(), (torch.eye(5).to_sparse(), torch.randn(5, 3)))
    assert found.unknown or found.count()["rescale"] == 4


def test_a_region_of_reduced_precision_is_run_in_it_again() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.b(torch.relu(self.a(x))).float()

    whole, batch = Whole(Net(), None), torch.randn(3, 5)
    captured = exported(whole, batch, NO_GRADIENT)
    given = {name: p.detach() for name, p in whole.named_parameters()}

    def value(source: Any) -> Tensor:
        return batch if source.kind == "input" else given[source.name]

    (found,) = run_graph(captured, value, Conversion(None))
    (expected,) = whole(batch)
    assert torch.equal(found, expected)


def test_a_mask_of_the_least_number_of_a_type_is_compared_in_that_type() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)
            bound = torch.full((), torch.finfo(h.dtype).min * 1e10, dtype=torch.float64)  # infinite in float64 alone
            return self.b(torch.relu(h)) + 0 * bound

    assert Net().double()(torch.randn(3, 5).double()).isnan().all()
    assert find_symmetries(Net(), torch.randn(3, 5)).count()["rescale"] == 8


def test_a_model_that_writes_into_its_own_weights_is_refused() -> None:
    class Forced(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            self.a.weight.data /= self.a.weight.data.norm()
            return self.b(torch.relu(self.a(x)))

    model = Forced()
    before = model.a.weight.detach().clone()
    with pytest.raises(ValueError, match=r"writes into a\.weight when it runs"):
        find_symmetries(model, torch.randn(3, 5))
    assert torch.equal(model.a.weight, before)


def test_parts_written_into_complex_tensors_are_followed() -> None:
    class Spectral(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 6, bias=False), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            found = torch.fft.rfft(self.a(x))
            kept = torch.zeros_like(found)
            kept[:, :2] = found[:, :2]
            return self.b(torch.fft.irfft(kept, n=6))

    symmetries = find_symmetries(Spectral().double(), torch.randn(3, 6).double())
    assert not symmetries.unknown


@pytest.mark.parametrize("how", ["mul_", "data", "none"])
def test_a_large_model_that_writes_into_its_weights_gets_copies(how: str) -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2100, 2100), nn.Linear(2100, 2)

        def forward(self, x: Tensor) -> Tensor:
            if how == "mul_":
                with torch.no_grad():
                    self.a.weight.mul_(0.5)
            elif how == "data":
                self.a.weight.data.mul_(0.5)
            return self.b(torch.relu(self.a(x)))

    model = Large()
    before = model.a.weight.detach().clone()
    try:
        assert find_symmetries(model, torch.randn(2, 2100)).count()["rescale"] == 2100
    except ValueError:
        assert how != "none"
    assert torch.equal(model.a.weight, before)


@pytest.mark.parametrize("seed", range(8))
def test_a_gradient_that_is_zero_by_symmetry_is_no_difference(seed: int) -> None:
    """Every parameter is a shift that the normalisation forgets: all gradients are rounding, in graph and model."""
    torch.manual_seed(seed)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(4))

        def forward(self, x: Tensor) -> Tensor:
            return 2 ** (self.w + x) / (2 ** (self.w + x)).sum(0, keepdim=True)

    assert find_symmetries(Net(), torch.randn(5, 4)).count()["scale"] == 0


def test_gradients_of_a_large_model_are_compared_too() -> None:
    """A hook that changes what goes back is refused at any size, though of each gradient few numbers are kept."""

    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2100, 2100), nn.Linear(2100, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x) * 1
            if h.requires_grad:
                h.register_hook(lambda g: g.abs())
            return self.b(torch.relu(h))

    with pytest.raises(ValueError, match=r"the gradient of a\.(weight|bias) differs"):
        find_symmetries(Large(), torch.randn(2, 2100))
