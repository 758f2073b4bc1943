"""What capture says and prints: regions without gradients, sharded models, the silence of a failed export."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.checkpoint import checkpoint

from neuralmechanics import find_symmetries

from ..agreement import judge
from ..network import Network


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.first, self.last, self.reentrant = nn.Linear(5, 7), nn.Linear(6, 3), reentrant
        self.inner = nn.Sequential(nn.ReLU(), nn.Linear(7, 6), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.last(checkpoint(self.inner, self.first(x), use_reentrant=self.reentrant))


class Silent(nn.Module):
    """A layer whose gradient is cut, its own scale and all."""

    def __init__(self, forward: Callable[[Silent, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 7), nn.Linear(7, 3)
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def target_of_itself(m: Silent, x: Tensor) -> Tensor:
    h = m.a(x).relu()
    with torch.no_grad():
        kept = m.a(x).relu()
    return m.b(h) + m.b(kept)


def enabled_again(m: Silent, x: Tensor) -> Tensor:
    with torch.no_grad():
        size = m.a(x).square().mean()
        with torch.enable_grad():
            h = m.a(x).relu()
    return m.b(h) / (1 + size)


def inputs(g: torch.Generator) -> tuple[Tensor]:
    return (torch.randn(8, 5, generator=g, dtype=torch.float64),)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_of_both_kinds_have_the_symmetries_of_the_plain_model(reentrant: bool) -> None:
    model = Checkpointed(reentrant).double()
    found = find_symmetries(model, torch.randn(8, 5).double())
    assert found.count() == {"translation": 0, "scale": 0, "rescale": 13, "linear": 0}
    assert not found.unknown


def test_spectral_norm_leaves_one_scale() -> None:
    """σ = uᵀ W v with u and v of length one: W/σ does not see the size of W."""
    model = nn.Sequential(spectral_norm(nn.Linear(5, 7, bias=False)), nn.ReLU(), nn.Linear(7, 3)).double()
    found = find_symmetries(model, inputs(torch.Generator())[0])
    assert found.count()["scale"] == 1
    (family,) = found.of_kind("scale")
    before = {name: p.detach() for name, p in model.named_parameters()}
    x = inputs(torch.Generator().manual_seed(1))[0]
    model.eval()
    with torch.no_grad():
        expected = model(x)
        moved = torch.func.functional_call(model, {**before, **family.transform(before, 3.0)}, (x,))
    assert (moved - expected).abs().max() < 1e-12


@pytest.mark.parametrize("forward", [target_of_itself, enabled_again])
def test_what_has_no_gradient_is_fixed_by_value(forward: Callable[[Silent, Tensor], Tensor]) -> None:
    network = Network("silent", Silent(forward).double(), inputs)
    verdict = judge(network, find_symmetries(network.module, network.batch()))
    assert verdict.sound, verdict


BRANCHES = """
import torch, neuralmechanics
from torch import nn
class Net(nn.Module):
    def __init__(self, branch):
        super().__init__()
        self.a, self.b, self.branch = nn.Linear(4, 5), nn.Linear(5, 3), branch
    def forward(self, x):
        return self.b(self.branch(torch.relu(self.a(x))))
for branch in (
    lambda h: h * 2 if h.sum() > 0 else h,
    lambda h: h[: max(1, int((h > 0).sum()) % 3)],
    lambda h: torch.stack([row if row[0] > -1 else 2 * row for row in h]),
):
    found = neuralmechanics.find_symmetries(Net(branch), torch.randn(3, 4))
    assert found.capture["route"] != "export" and found.count()["rescale"] >= 1
"""


def test_a_failed_export_prints_nothing() -> None:
    run = subprocess.run([sys.executable, "-c", BRANCHES], capture_output=True, text=True, timeout=200, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_a_model_that_does_not_run_is_told_its_own_error() -> None:
    with pytest.raises(ValueError, match="does not run on the given batch: mat1 and mat2 shapes"):
        find_symmetries(nn.Linear(4, 3), torch.randn(2, 5))


@pytest.mark.filterwarnings("ignore")
def test_a_sharded_model_is_told_what_it_is(tmp_path: object) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = fully_shard(nn.Sequential(nn.Linear(6, 8), nn.ReLU()), mesh=init_device_mesh("cpu", (1,)))
        with pytest.raises(ValueError, match=r"is sharded \(0\.weight is a DTensor\).*before it is sharded"):
            find_symmetries(model, torch.randn(4, 6), lambda m, b: functional.mse_loss(m(b), torch.zeros(4, 8)))
    finally:
        torch.distributed.destroy_process_group()
