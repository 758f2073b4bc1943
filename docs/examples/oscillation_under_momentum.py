"""
A charge that oscillates: β = .99
=================================

Under momentum and weight decay a charge is a damped oscillator, x'' + 2γx' + ω²x = 0. Beyond a threshold of h·λ it
swings through zero, which no first-order law can.
"""

# %%
# The threshold for β = .99: tiny, so that ordinary settings are beyond it.
import torch
from matplotlib.figure import Figure

from neuralmechanics.laws import (
    Drives,
    ExactLaw,
    Hyperparameters,
    normal_form,
    oscillation_threshold,
    oscillator_path,
    relaxation_path,
)

hyper = Hyperparameters(learning_rate=0.1, weight_decay=1e-2, momentum=0.99)
threshold = oscillation_threshold(0.99, quadratic=False)
print(f"hλ = {0.1 * 1e-2:g}, oscillates beyond {threshold:.2e}")
assert threshold < 0.1 * 1e-2

# %%
# The sum of a softmax layer's column, step by step under the exact law, and the closed forms of both continuous models.
law = ExactLaw(quadratic=torch.tensor([False]))
law.start(torch.ones(1, dtype=torch.float64))
exact = [1.0]
for step in range(2000):
    law.step(Hyperparameters(0.1, 1e-2, 0.99, first_step=step == 0), Drives())
    exact.append(law.value.item())
times = 0.1 * torch.arange(2001, dtype=torch.float64)
oscillator = oscillator_path(times, 1.0, normal_form(hyper, quadratic=False))
relaxation = relaxation_path(times, 1.0, rate=1e-2 / (1 - 0.99))
exact = torch.tensor(exact, dtype=torch.float64)
errors = [(path - exact).abs().max() for path in (oscillator, relaxation)]
print(f"largest error: oscillator {errors[0]:.1e}, first order {errors[1]:.1e}")
assert errors[0] < 1e-3 < 0.3 < errors[1]
assert exact.min() < -0.1

# %%
figure = Figure(figsize=(7, 3.2), layout="constrained")
axes = figure.subplots()
axes.axhline(0, color="0.9")
axes.plot(exact, color="0.75", linewidth=5, label="exact law")
axes.plot(oscillator, color="C0", linewidth=1, label="modified flow")
axes.plot(relaxation, color="C1", linewidth=1, label="first order")
axes.set(xlabel="step", ylabel="q / q(0)", title="a translation charge, β = .99, η = .1, λ = .01")
axes.legend()
