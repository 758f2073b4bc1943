"""
Two runs compared
=================

The same network with and without weight decay: what differs in the settings, what moved each layer in each run, what
was found in one alone.
"""

# %%
# Two recorded runs of a network with batch norm.
import tempfile
from pathlib import Path

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import nn

import neuralmechanics as nm
from neuralmechanics.monitor.explaining.comparison import compare_runs

images, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
images = images.float() / 16
folder = Path(tempfile.mkdtemp())


def loss_fn(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def training(name, weight_decay):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=weight_decay)
    symmetries = nm.find_symmetries(model, (images[:64], labels[:64]), loss_fn)
    with nm.Monitor(model, optimizer, symmetries, store=folder / name, every=10):
        for _ in range(400):
            chosen = torch.randint(len(images), (64,))
            optimizer.zero_grad()
            loss_fn(model, (images[chosen], labels[chosen])).backward()
            optimizer.step()
    return nm.open_run(folder / name)


without, decayed = training("without", 0.0), training("decayed", 5e-3)

# %%
comparison = compare_runs(without, decayed)
print(comparison.settings.to_string(index=False))

# %%
# What moved the norms of the first layer: without decay steps can only lengthen them.
scale = comparison.layers[comparison.layers["kind"] == "scale"].set_index("layer")
print(scale.T.to_string(float_format="{:.3g}".format))
assert float(scale["weight_decay 1"].iloc[0] if "weight_decay 1" in scale else 0) == 0

# %%
figure = Figure(figsize=(6, 3.4), layout="constrained")
axes = figure.subplots()
for run, name in ((without, "λ = 0"), (decayed, "λ = .005")):
    norms = run.data["charge"].isel(charge=run.data["kind"].values == "scale")
    axes.plot(run.data["step"], norms.median("charge"), label=name)
axes.set(xlabel="step", ylabel="median squared norm", yscale="log")
axes.legend()
