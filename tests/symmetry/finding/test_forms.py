"""The same network in every container, precision and mode: the symmetries are the network's, not the wrapper's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from neuralmechanics import find_symmetries

from ..network import _cross_entropy


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.BatchNorm1d(5), nn.GELU(), nn.Linear(5, 3))


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(12, 4, generator=generator).to(dtype), torch.randint(3, (12,), generator=generator)


EXPECTED = {"translation": 5 + 1 + 5, "scale": 5, "rescale": 6}


def counted(model: nn.Module, given: tuple[Tensor, Tensor] | None = None) -> dict[str, int]:
    count = find_symmetries(model, batch() if given is None else given, _cross_entropy).count()
    return {kind: count.get(kind, 0) for kind in EXPECTED}


def test_plain() -> None:
    assert counted(mlp()) == EXPECTED


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_any_precision(dtype: torch.dtype) -> None:
    assert counted(mlp().to(dtype), batch(dtype)) == EXPECTED


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised inside torch.compile
def test_compiled() -> None:
    assert counted(torch.compile(mlp())) == EXPECTED


def test_data_parallel_wrappers(tmp_path: Path) -> None:
    assert counted(nn.DataParallel(mlp())) == EXPECTED
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        assert counted(nn.parallel.DistributedDataParallel(mlp())) == EXPECTED
    finally:
        torch.distributed.destroy_process_group()


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.body, x, use_reentrant=False)


def test_activation_checkpointing() -> None:
    assert counted(Checkpointed()) == EXPECTED


def test_evaluation_mode_has_no_scale_and_no_bias_translation() -> None:
    count = counted(mlp().eval())
    assert count["scale"] == 0
    assert count["translation"] == 6


def test_the_model_is_left_as_it_was() -> None:
    model = mlp()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    find_symmetries(model, batch(), _cross_entropy)
    assert model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_meta_device() -> None:
    with torch.device("meta"):
        model = mlp()
    given = tuple(part.to("meta") for part in batch())
    assert counted(model, given) == EXPECTED  # type: ignore[arg-type]


def test_norm_eps_is_recorded() -> None:
    families = [f for f in find_symmetries(mlp(), batch(), _cross_entropy) if f.kind == "scale"]
    assert families
    assert all(not f.exact and f.broken_by for f in families)


@dataclass
class Prediction:
    logits: Tensor
    features: Tensor


torch.utils._pytree.register_dataclass(Prediction)


class Structured(nn.Module):
    """Returns logits and hidden features in the asked container: every one of them is output."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.a, self.b = how, nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> object:
        hidden = torch.relu(self.a(x))
        logits = self.b(hidden)
        if self.how == "tuple":
            return logits, hidden
        return {"logits": logits, "features": hidden} if self.how == "dict" else Prediction(logits, hidden)


@pytest.mark.parametrize("how", ["tuple", "dict", "dataclass"])
def test_every_output_counts_without_a_loss(how: str) -> None:
    model = Structured(how)
    assert find_symmetries(model, (batch()[0],)).count().get("rescale", 0) == 0
    found = find_symmetries(model, batch(), lambda m, b: first(m(b[0])).square().sum())
    assert found.count()["rescale"] == 6


def first(output: object) -> Tensor:
    if isinstance(output, tuple):
        return output[0]
    return output["logits"] if isinstance(output, dict) else output.logits  # type: ignore[attr-defined, no-any-return]


class Raw(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Parameter(torch.randn(16, 4)), nn.Parameter(torch.randn(3, 16))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x @ self.w1.T) @ self.w2.T


def test_raw_tensors_have_sixteen_rescale_symmetries() -> None:
    count = find_symmetries(Raw(), batch()[0]).count()
    assert {kind: n for kind, n in count.items() if n} == {"rescale": 16}


def test_plain_data_form_keeps_everything() -> None:
    import neuralmechanics as nm

    model = mlp()
    found = find_symmetries(model, batch(), _cross_entropy)
    again = nm.Symmetries.from_dict(found.to_dict())
    params = dict(model.named_parameters())
    assert again.labels == found.labels
    assert again.kinds == found.kinds
    assert torch.equal(again.charge(params), found.charge(params))
