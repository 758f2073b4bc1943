"""
The charge of one unit through a rate drop
==========================================

A hidden unit of ReLU has a charge, the squared length of what comes in less that of what goes out. Gradient flow
conserves it; training with momentum, weight decay and a drop of the learning rate does not. The exact law follows it
through the drop.
"""

# %%
# A network on handwritten digits, and a monitor that records every fifth step.
import torch
from sklearn.datasets import load_digits
from torch import nn

import neuralmechanics as nm
from neuralmechanics.report import charges_and_laws

torch.manual_seed(0)
images, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
images = images.float() / 16
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=2e-3)
schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[200], gamma=0.1)


def loss_fn(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


symmetries = nm.find_symmetries(model, (images[:64], labels[:64]), loss_fn)
with nm.Monitor(model, optimizer, symmetries, every=5, laws=["exact", "modified_flow", "gradient_flow"]) as monitor:
    for _ in range(400):
        chosen = torch.randint(len(images), (64,))
        optimizer.zero_grad()
        loss_fn(model, (images[chosen], labels[chosen])).backward()
        optimizer.step()
        schedule.step()

# %%
# Wide grey: measured. The exact law and the modified flow lie on it before and after step 200.
figure = charges_and_laws(monitor.run, families=["rescale: 0 → 2"])

# %%
# The errors, relative to the size of each charge at the start.
errors = monitor.run.errors()
of_units = errors[errors["kind"] == "rescale"].set_index("law")["max_error"]
print(of_units.map("{:.1e}".format).to_string())
assert of_units["exact"] < 1e-5 < 1e-2 < of_units["gradient_flow"]
