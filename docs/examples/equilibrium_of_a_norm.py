"""
Where a norm settles
====================

Weights in front of a norm are scale free: steps lengthen them, decay shortens them, and where both are equal they
turn by √(2hλ/(1+β)) a step, whatever the gradients are.
"""

# %%
# A layer in front of a norm, trained on noise so that gradients never die out.
import math

import torch
from matplotlib.figure import Figure
from torch import nn

import neuralmechanics as nm
from neuralmechanics.laws.equilibrium import equilibrium_rotation
from neuralmechanics.optimizers import Sgd

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 8, bias=False), nn.BatchNorm1d(8, affine=False), nn.Linear(8, 4))
for parameter in model[2].parameters():
    parameter.requires_grad_(False)
settings = Sgd(0.05, weight_decay=0.02, momentum=0.9)
optimizer = torch.optim.SGD(model[0].parameters(), lr=0.05, weight_decay=0.02, momentum=0.9)


def loss_fn(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


symmetries = nm.find_symmetries(model, (torch.randn(32, 16), torch.randint(4, (32,))), loss_fn)
turned = []
with nm.Monitor(model, optimizer, symmetries, every=10) as monitor:
    for step in range(1500):
        before = model[0].weight.detach().clone()
        optimizer.zero_grad()
        loss_fn(model, (torch.randn(32, 16), torch.randint(4, (32,)))).backward()
        optimizer.step()
        if step >= 750:
            cosine = nn.functional.cosine_similarity(before, model[0].weight.detach(), dim=1)
            turned.append(cosine.clamp(max=1).arccos().square().mean().sqrt().item())

# %%
# The angle of a step: measured over the second half, and the formula.
measured, predicted = sum(turned) / len(turned), equilibrium_rotation(settings)
print(f"angle of a step: measured {measured:.5f}, √(2hλ/(1+β)) = {predicted:.5f}")
assert math.isclose(measured, predicted, rel_tol=0.1)

# %%
# The norms forecast from the first half of the run, and where they are at its end.
forecast = monitor.run.forecast(learned_until=750)
settled = forecast.scales["equilibrium_norm"]
last = monitor.run.data["charge"].isel(charge=monitor.run.data["kind"].values == "scale", step=-1).values ** 0.5
print(f"norms: forecast {settled.mean():.3f}, at the end {last.mean():.3f}")
assert math.isclose(settled.mean(), last.mean(), rel_tol=0.1)
figure = Figure(figsize=(6, 3.4), layout="constrained")
axes = figure.subplots()
norms = monitor.run.data["charge"].isel(charge=monitor.run.data["kind"].values == "scale") ** 0.5
axes.plot(monitor.run.data["step"], norms, color="0.6", linewidth=0.8)
axes.axhline(settled.mean(), color="C0", label="equilibrium, from the first half")
axes.set(xlabel="step", ylabel="|row|")
axes.legend()
