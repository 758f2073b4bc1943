"""Modified flows of a small VGG with batch norm against its training: the order of convergence by regression."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from neuralmechanics.flows import GradientFlow, ModifiedFlow, ModuleLoss, descend, integrate, module_loss


def vgg(rectifier: type[nn.Module], pool: type[nn.Module]) -> ModuleLoss:
    """Two convolutions with batch norm and pooling, two linear layers, cross-entropy on 24 digits."""
    torch.manual_seed(0)
    data = load_digits()
    images = torch.tensor(data.images[:24], dtype=torch.float64)[:, None] / 8 - 1
    layers = [nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), rectifier(), pool(2)]
    layers += [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), rectifier(), pool(2)]
    layers += [nn.Flatten(), nn.Linear(16, 8), rectifier(), nn.Linear(8, 10)]

    def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    return module_loss(nn.Sequential(*layers).double(), cross_entropy, (images, torch.tensor(data.target[:24])))


def measured_order(loss: ModuleLoss, order: int, horizon: float) -> float:
    """The slope of log distance from descent at the horizon against log η."""
    counts = (4, 8, 16)
    distances = []
    for count in counts:
        rate = horizon / count
        flow = GradientFlow(loss) if order == 1 else ModifiedFlow(loss, learning_rate=rate, order=order)
        run = descend(loss, loss.theta0, partial(torch.optim.SGD, lr=rate), count)
        path = integrate(
            flow, loss.theta0, [0.0, horizon], None, "dopri5-fixed", step=horizon / 4, estimate_error=False
        )
        distances.append(max(float((path.final[name] - value).abs().max()) for name, value in run.final.items()))
    steps = -torch.tensor(counts).double().log()
    logs = torch.tensor(distances).double().log()
    return float(((steps - steps.mean()) * (logs - logs.mean())).sum() / (steps - steps.mean()).square().sum())


@pytest.mark.parametrize(
    "order", [pytest.param(1), *(pytest.param(order, marks=pytest.mark.slow) for order in (2, 3, 4))]
)
def test_descent_follows_to_the_order_of_the_series(order: int) -> None:
    loss = vgg(nn.GELU, nn.AvgPool2d)
    assert measured_order(loss, order, 0.2) == pytest.approx(order, abs=0.05)


@pytest.mark.parametrize("order", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_of_rectifiers_and_maxima_between_kinks(order: int) -> None:
    """As the paper has it, over a stretch on which no unit and no maximum changes sides."""
    loss = vgg(nn.ReLU, nn.MaxPool2d)
    plain = integrate(GradientFlow(loss), loss.theta0, [0.0, 2e-4], None, "rk4", step=1e-4, estimate_error=False)
    assert plain.pattern_changes is not None
    assert int(plain.pattern_changes.sum()) == 0
    assert measured_order(loss, order, 2e-4) == pytest.approx(order, abs=0.05)
