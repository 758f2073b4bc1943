"""
A flow of order four
====================

Gradient flow follows descent to first order in the learning rate. The modified flow of order n follows it to order n,
for any network.
"""

# %%
# A small tanh network on random data, all in float64.
import torch
from matplotlib.figure import Figure
from torch import nn

import neuralmechanics as nm

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
batch = torch.randn(16, 3), torch.randn(16, 2)
loss = nm.flows.module_loss(model, lambda model, batch: (model(batch[0]) - batch[1]).square().mean(), batch)

# %%
# Descent at three learning rates against the flows of order 1, 2 and 4, over one and the same time.
rates = (0.2, 0.1, 0.05)
distances = {}
for order in (1, 2, 4):
    for rate in rates:
        steps = round(2 / rate)
        descent = nm.flows.descend(loss, loss.theta0, lambda p, rate=rate: torch.optim.SGD(p, lr=rate), steps=steps)
        flow = nm.flows.ModifiedFlow(loss, learning_rate=rate, order=order)
        path = nm.flows.integrate(flow, loss.theta0, descent.times)
        apart = [(path.final[name] - descent.final[name]).abs().max() for name in path.final]
        distances.setdefault(order, []).append(max(apart).item())

# %%
# The slopes are the orders.
logs = torch.tensor(rates, dtype=torch.float64).log()
orders = {}
for order, found in distances.items():
    errors = torch.tensor(found, dtype=torch.float64).log()
    orders[order] = (torch.cov(torch.stack([logs, errors]))[0, 1] / logs.var()).item()
    print(f"order {order}: measured {orders[order]:.2f}")
assert all(abs(found - order) < 0.4 for order, found in orders.items())
figure = Figure(figsize=(5, 3.6), layout="constrained")
axes = figure.subplots()
for order, found in distances.items():
    axes.loglog(rates, found, "o-", label=f"order {order}, slope {orders[order]:.2f}")
axes.set(xlabel="learning rate", ylabel="distance from descent")
axes.legend()
