"""
Descent, and three models of it
===============================

The paper's quadratic (eigenvalues 4 and 1) under momentum, against gradient flow, the modified loss and the modified
flow. The modified loss is a relaxation: it cannot oscillate. The modified flow can.
"""

# %%
import torch
from matplotlib.figure import Figure

import neuralmechanics as nm
from neuralmechanics.flows.equation.examples import quadratic

theta0 = {"x": torch.tensor([1.0, 0.0], dtype=torch.float64)}
rate, momentum = 0.01, 0.9
descent = nm.flows.descend(quadratic, theta0, lambda p: torch.optim.SGD(p, lr=rate, momentum=momentum), steps=150)
models = {
    "gradient flow": nm.flows.MomentumFlow(quadratic, momentum=momentum),
    "modified loss": nm.flows.ModifiedLoss(quadratic, learning_rate=rate, momentum=momentum),
    "modified flow": nm.flows.ModifiedFlow(quadratic, learning_rate=rate, momentum=momentum),
}
distances = {}
figure = Figure(figsize=(7, 3.4), layout="constrained")
axes = figure.subplots()
iterates = descent.params["x"]
axes.plot(descent.times, iterates[:, 0], color="0.75", linewidth=5, label="heavy ball")
for name, model in models.items():
    path = nm.flows.integrate(model, theta0, descent.times)
    distances[name] = (path.params["x"] - iterates).norm(dim=1).max().item()
    axes.plot(path.times, path.params["x"][:, 0], linewidth=1, label=name)
axes.set(xlabel="time", ylabel="first coordinate")
axes.legend()

# %%
# The largest distance from the iterates.
for name, distance in distances.items():
    print(f"{name:14} {distance:.4f}")
assert distances["modified flow"] < 0.1 * min(distances["gradient flow"], distances["modified loss"])
