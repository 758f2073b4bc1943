"""
Laws replayed, and one of your own
==================================

A run that was made with ``drives=True`` keeps what the laws were fed. Any law can be replayed on it afterwards, also
one that you write: a class with ``start``, ``step`` and ``value``.
"""

# %%
import torch
from matplotlib.figure import Figure
from torch import nn

import neuralmechanics as nm
from neuralmechanics.laws import ExactLaw, replay

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4)).double()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
batch = torch.randn(64, 5, dtype=torch.float64), torch.randint(4, (64,))


def loss_fn(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


symmetries = nm.find_symmetries(model, batch, loss_fn).of_kind("rescale")
with nm.Monitor(model, optimizer, symmetries, drives=True, every=1) as monitor:
    for _ in range(200):
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
history = monitor.run.drive_history()


# %%
# Steps without memory: what the charge would do if each step were plain descent with the update that happened.
class Memoryless:
    """X ← (1 - 2ηλ/(1-β)) X + |d|²: decay as it adds up in a steady state, and the length of the step."""

    name = "memoryless"

    def start(self, charge0, companion0=None):
        self.value = charge0.clone()

    def step(self, hyper, drives):
        decay = 2 * hyper.learning_rate * hyper.weight_decay / (1 - hyper.momentum)
        self.value = (1 - decay) * self.value + drives.update_energy


measured = monitor.run.data["charge"].values
paths = {law.name: replay(law, history) for law in (ExactLaw(), Memoryless())}
for name, path in paths.items():
    print(f"{name:11} largest error {abs(path.numpy() - measured).max():.1e}")
assert abs(paths["exact"].numpy() - measured).max() < 1e-12

# %%
figure = Figure(figsize=(6, 3.4), layout="constrained")
axes = figure.subplots()
axes.plot(measured, color="0.8", linewidth=4)
axes.plot(paths["exact"], color="C0", linewidth=0.8)
axes.plot(paths["memoryless"], color="C1", linewidth=0.8, linestyle="--")
axes.set(xlabel="step", ylabel="charges of seven units", title="grey: measured; blue: exact; dashed: memoryless")
