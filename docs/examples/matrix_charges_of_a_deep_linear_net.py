"""
Matrix charges of a deep linear network
=======================================

Two layers with nothing between them admit any invertible matrix: W₁ → A W₁, W₂ → W₂ A⁻¹. Gradient flow conserves the
whole symmetric matrix W₁W₁ᵀ - W₂ᵀW₂, d(d+1)/2 numbers for width d, and keeps them whatever the loss does.
"""

# %%
# A linear network with 3 hidden units, fitted to a random map.
import torch
from matplotlib.figure import Figure
from torch import nn

import neuralmechanics as nm

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 2, bias=False)).double()
inputs = torch.randn(32, 4, dtype=torch.float64)
targets = inputs @ torch.randn(4, 2, dtype=torch.float64)


def loss_fn(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()


symmetries = nm.find_symmetries(model, (inputs, targets), loss_fn)
assert symmetries.count() == {"translation": 0, "scale": 0, "rescale": 0, "linear": 6}

# %%
# Gradient flow by a method that conserves quadratic charges to rounding, and descent at the same times.
loss = nm.flows.module_loss(model, loss_fn, (inputs, targets))
times = torch.linspace(0, 5, 26, dtype=torch.float64)
flow = nm.flows.integrate(nm.flows.GradientFlow(loss), loss.theta0, times, symmetries, method="gauss2")
descent = nm.flows.descend(loss, loss.theta0, lambda p: torch.optim.SGD(p, lr=0.1), steps=50, symmetries=symmetries)
drift = {"gradient flow": flow.charges - flow.charges[0], "descent, η = .1": descent.charges - descent.charges[0]}
for name, change in drift.items():
    print(f"{name:16} the six charges drift by {change.abs().max():.1e}, the loss falls to", end=" ")
    print(f"{(flow if name == 'gradient flow' else descent).losses[-1]:.4f}")
assert drift["gradient flow"].abs().max() < 1e-12 < 1e-3 < drift["descent, η = .1"].abs().max()

# %%
# The six entries of the matrix along both paths.
figure = Figure(figsize=(7, 3.2), layout="constrained")
axes = figure.subplots()
axes.plot(flow.times, flow.charges, color="0.75", linewidth=4)
axes.plot(descent.times, descent.charges, color="C0", linewidth=1)
axes.set(xlabel="time", ylabel="entries of W₁W₁ᵀ - W₂ᵀW₂", title="wide grey: gradient flow; blue: descent")
