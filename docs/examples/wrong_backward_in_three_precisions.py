"""
A wrong backward pass in three precisions
=========================================

Residuals of the constraints are counted in roundings of the precision that the loss is computed in. A right backward
pass stays at a few roundings in any precision. A wrong one is thousands of roundings off in float64 and float32; in
bfloat16, whose roundings are percents, only a large error shows.
"""

# %%
# A linear layer written by hand, with a factor on its weight gradient that ought to be one.
import torch
from matplotlib.figure import Figure
from torch import nn

import neuralmechanics as nm


class Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, factor):
        ctx.save_for_backward(x, weight)
        ctx.factor = factor
        return x @ weight.T

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return grad @ weight, ctx.factor * (grad.T @ x), None


class Network(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.entry, self.head, self.factor = nn.Parameter(torch.randn(7, 5)), nn.Linear(7, 4), factor

    def forward(self, x):
        return self.head(torch.relu(Linear.apply(x, self.entry, self.factor)))


def loss_fn(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


# %%
# What leaves the function unchanged is found once, from the right layer. Then the gradient constraint of each family,
# in roundings.
torch.manual_seed(0)
inputs, targets = torch.randn(64, 5), torch.randint(4, (64,))
symmetries = nm.find_symmetries(Network(1.0), (inputs, targets), loss_fn)
precisions = (torch.float64, torch.float32, torch.bfloat16)
residuals, verdicts = {}, {}
for factor in (1.0, 0.999, 0.5):
    for dtype in precisions:
        torch.manual_seed(1)
        report = nm.check_symmetries(symmetries, Network(factor).to(dtype), loss_fn, [(inputs.to(dtype), targets)])
        residuals[factor, dtype] = report.to_frame()["gradient_roundings"].max()
        verdicts[factor, dtype] = report.ok
        print(f"factor {factor:<5} {dtype!s:15} {residuals[factor, dtype]:8.2g} roundings", end="  ")
        print("exact" if report.ok else f"broken: {report.broken[0].family}")
assert all(verdicts[1.0, dtype] for dtype in precisions)
assert not any(verdicts[0.5, dtype] for dtype in precisions)
assert not verdicts[0.999, torch.float64]

# %%
# In a test suite one line does the same: ``assert_symmetric`` finds, checks, and raises with the table.
try:
    nm.assert_symmetric(Network(0.5), loss_fn, [(inputs, targets)])
except AssertionError as refusal:
    print(str(refusal).splitlines()[0])

# %%
figure = Figure(figsize=(6, 3.2), layout="constrained")
axes = figure.subplots()
for place, factor in enumerate((1.0, 0.999, 0.5)):
    heights = [max(residuals[factor, dtype], 1e-2) for dtype in precisions]
    axes.bar([k + 0.25 * (place - 1) for k in range(3)], heights, 0.22, label=f"factor {factor}")
axes.axhline(20, color="0.6", linewidth=0.8)
axes.set(yscale="log", ylabel="residual in roundings", title="the limit is 20")
axes.set_xticks(range(3), [str(dtype).removeprefix("torch.") for dtype in precisions])
axes.legend()
