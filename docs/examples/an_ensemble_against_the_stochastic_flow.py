"""
An ensemble of trainings against the stochastic flow
====================================================

Noise has no component along the generators, and moves the charges all the same, by Ito's second-order term. For two
layers of one weight each, it pulls the charge x² - y² to zero: the law of balance.
"""

# %%
# The loss of example i is ½(xy - t_i)²; one example a step.
import torch
from matplotlib.figure import Figure

import neuralmechanics as nm

rate, steps, paths = 0.1, 100, 24
examples = torch.tensor([0.0, 2.0], dtype=torch.float64)
theta0 = {"x": torch.tensor([1.6], dtype=torch.float64), "y": torch.tensor([0.6], dtype=torch.float64)}


def losses(params):
    return 0.5 * (params["x"] * params["y"] - examples).square()


# %%
# Stochastic gradient descent, all runs at once.
torch.manual_seed(0)
x, y = (value.repeat(4000) for value in theta0.values())
mean_of_training = [(x.square() - y.square()).mean().item()]
for _ in range(steps):
    error = x * y - examples[torch.randint(2, x.shape)]
    x, y = x - rate * error * y, y - rate * error * x
    mean_of_training.append((x.square() - y.square()).mean().item())

# %%
# The stochastic flow, one seed a path, at every tenth step.
flow = nm.flows.StochasticFlow(losses, learning_rate=rate, batch_size=1)
times = rate * torch.arange(0, steps + 1, 10, dtype=torch.float64)
found = [nm.flows.simulate(flow, theta0, times, seed=seed) for seed in range(paths)]
charges = torch.stack([(path.params["x"].square() - path.params["y"].square()).squeeze(1) for path in found])
mean, error = charges.mean(0), charges.std(0) / paths**0.5
print(f"at the start {mean_of_training[0]:.3f}, at the end {mean_of_training[-1]:.3f} in training,", end=" ")
print(f"{mean[-1]:.3f} ± {error[-1]:.3f} in the flow")
assert abs(mean[-1] - mean_of_training[-1]) < 4 * error[-1] + 0.05
assert mean_of_training[-1] < 0.6 * mean_of_training[0]

# %%
figure = Figure(figsize=(6, 3.4), layout="constrained")
axes = figure.subplots()
axes.plot(rate * torch.arange(steps + 1), mean_of_training, color="0.7", linewidth=4, label="4000 trainings")
axes.errorbar(times, mean, 2 * error, fmt="o", color="C0", label=f"stochastic flow, {paths} paths")
axes.set(xlabel="time", ylabel="mean of x² - y²")
axes.legend()
