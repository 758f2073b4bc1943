"""How large the gradients of scale-free weights are, what makes them so, and why they grow while a network trains.

The loss does not change under θ_A ↦ aθ_A, so g(aθ_A) = g(θ_A)/a: |g| = ĝ/|θ_A| with ĝ the gradient at unit norm, which
only directions decide. Of ĝ two things are told apart over batches of n examples,

    E|g|² = |E g|² + E|g - E g|²,

the mean gradient and the noise. Where labels are as uncertain as the model says, the noise is the trace of the Fisher
information, which is that of the Gauss-Newton matrix: E|g'|² with g' the gradient for labels that the model itself
draws, whose mean is zero. So

    |g| = 1/|θ_A|  ·  √(E|g'|² |θ_A|²)  ·  √(1 + |E g|²/noise)  ·  √(noise/E|g'|²)
          norm        curvature            mean gradient          calibration

exactly, and the growth of |g| between two points is the product of the growths of the four. The norm is set by decay
and learning rate (`laws.equilibrium`), which makes gradients grow near the end of a decaying schedule; the curvature at
unit norm grows where smaller steps let a network enter sharper places; calibration is what the three do not explain.

Sources: Kunin et al. 2021, section 3 (gradients of scale symmetries); Defazio, "Why gradients rapidly increase near the
end of training" (2025), for the norm; Martens, "New insights and perspectives on the natural gradient method" (2020),
for Fisher information and Gauss-Newton matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from neuralmechanics.functional.as_found import left_as_found
from neuralmechanics.functional.batches import require_batches, running_on
from neuralmechanics.functional.function_module import PlainFunction, as_module
from neuralmechanics.functional.pure_loss import Objective, trainable_parameters
from neuralmechanics.symmetry import Symmetries

if TYPE_CHECKING:
    import pandas as pd

    from neuralmechanics.symmetry.families.family import Family

__all__ = ["GradientEnergy", "GradientGrowth", "gradient_energy"]

Vector = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class GradientGrowth:
    """The growth of |g| between two points and of its four factors, one entry a charge; each is a ratio of lengths."""

    labels: tuple[str, ...]
    gradient: Vector
    norm: Vector
    """of 1/|θ_A|: above 1 where norms fell"""
    curvature: Vector
    """of √(E|g'|²) at unit norm; nan where no labels were drawn"""
    mean_gradient: Vector
    """of √(1 + |E g|²/noise): below 1 where the mean gradient died out"""
    calibration: Vector
    """of √(noise/E|g'|²): what the other three do not explain"""

    @property
    def explained(self) -> float:
        """1 - |⟨ln calibration⟩|/|⟨ln gradient⟩|, means over the charges that have both; at most 1, nan without any."""
        return self._part(self.calibration, rest=True)

    @property
    def explained_by_norm(self) -> float:
        """⟨ln norm⟩/⟨ln gradient⟩: what decay and learning rate alone have to do with the growth."""
        return self._part(self.norm, rest=False)

    def to_frame(self) -> pd.DataFrame:
        """One row a charge."""
        import pandas as pd

        names = ("gradient", "norm", "curvature", "mean_gradient", "calibration")
        return pd.DataFrame({"label": self.labels, **{name: getattr(self, name) for name in names}})

    def __repr__(self) -> str:
        whole = {n: self._typical(getattr(self, n)) for n in ("norm", "curvature", "mean_gradient", "calibration")}
        factors = ", ".join(f"{name.replace('_', ' ')} ×{value:.3f}" for name, value in whole.items())
        return (
            f"gradients of {len(self.labels)} charges ×{self._typical(self.gradient):.3f} (geometric means), by\n"
            f"{factors}; {self.explained:.0%} explained"
        )

    def _typical(self, ratios: Vector) -> float:
        known = ratios[np.isfinite(ratios) & (ratios > 0)]
        return float(np.exp(np.log(known).mean())) if len(known) else float("nan")

    def _part(self, ratios: Vector, *, rest: bool) -> float:
        known = np.isfinite(ratios) & (ratios > 0) & np.isfinite(self.gradient) & (self.gradient > 0)
        grown = float(np.log(self.gradient[known]).mean()) if known.any() else float("nan")
        part = float(np.log(ratios[known]).mean()) / grown if grown else float("nan")
        return 1 - abs(part) if rest else part


@dataclass(frozen=True, eq=False)
class GradientEnergy:
    """Squared lengths of the gradients of scale-free weights at one point, one entry a charge |θ_A|²."""

    labels: tuple[str, ...]
    squared_norm: Vector
    """|θ_A|²"""
    batch: Vector
    """E|g|² of a batch's gradient"""
    mean: Vector
    """|E g|², without bias, so that it may come out below zero where it is lost in the noise"""
    curvature: Vector
    """E|g'|² for labels that the model draws: tr F/n of n examples a batch; nan where none were drawn"""
    passed_over: tuple[str, ...] = ()
    """scale families of which some parameters scale by another power, so that |g| is not ĝ/|θ_A|"""

    def growth_since(self, earlier: GradientEnergy) -> GradientGrowth:
        """What of the growth of |g| since an earlier point belongs to which factor; batches have to be of one size.

        Raises ValueError where the charges are others.
        """
        if self.labels != earlier.labels:
            raise ValueError("the charges of the two points are not the same; measure both with the same symmetries")
        now, then = self._factors(), earlier._factors()
        with np.errstate(invalid="ignore", divide="ignore"):
            return GradientGrowth(self.labels, **{name: now[name] / then[name] for name in now})

    def to_frame(self) -> pd.DataFrame:
        """One row a charge: |θ_A|², E|g|², |E g|², the noise E|g|² - |E g|², E|g'|²."""
        import pandas as pd

        columns = {"squared_norm": self.squared_norm, "batch": self.batch, "mean": self.mean}
        return pd.DataFrame(
            {"label": self.labels, **columns, "noise": self.batch - self.mean, "curvature": self.curvature}
        )

    def __repr__(self) -> str:
        over = f", without {', '.join(self.passed_over)}" if self.passed_over else ""
        return f"GradientEnergy of {len(self.labels)} charges{over}; to_frame() has them"

    def _factors(self) -> dict[str, Vector]:
        noise = self.batch - self.mean
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                "gradient": np.sqrt(self.batch),
                "norm": 1 / np.sqrt(self.squared_norm),
                "curvature": np.sqrt(self.curvature * self.squared_norm),
                "mean_gradient": np.sqrt(self.batch / noise),
                "calibration": np.sqrt(noise / self.curvature),
            }


def gradient_energy(
    model: nn.Module | PlainFunction,
    loss_fn: Callable[[nn.Module, Any], Tensor],
    batches: Sequence[Any],
    symmetries: Symmetries,
    *,
    draw: Callable[[nn.Module, Any], Any] | None = None,
    seed: int = 0,
    params: Mapping[str, Tensor] | None = None,
) -> GradientEnergy:
    """Squared lengths of the gradients of every scale charge |θ_A|², over independent batches of one size.

    ``draw(model, batch)`` returns the batch with labels that the model draws, for cross-entropy
    ``(x, Categorical(logits=model(x)).sample())``; without it the curvature is nan. One gradient a batch in the model's
    own precision and mode, a second with ``draw``; lengths in float64. The relative error of an energy is about
    √(2/(B·d)) over B batches, d the number of directions that gradients mainly have. The model and the random numbers
    of the caller are left as they were. Families of other kinds are left out, and those that scale their parameters by
    different powers (`passed_over`). A plain function ``model(params, batch)`` comes with its tensors as ``params``.

    Raises ValueError where there are fewer than two batches (the mean gradient needs two), and where no family is left.

    >>> from torch.distributions import Categorical
    >>> from neuralmechanics import find_symmetries
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Linear(3, 4, bias=False), nn.RMSNorm(4, eps=0.0, elementwise_affine=False))
    >>> data = [(torch.randn(50, 3), torch.randint(4, (50,))) for _ in range(4)]
    >>> def loss(net, batch):
    ...     return nn.functional.cross_entropy(net(batch[0]), batch[1])
    >>> def draw(net, batch):
    ...     return batch[0], Categorical(logits=net(batch[0])).sample()
    >>> known = find_symmetries(net, data[0], loss)
    >>> before = gradient_energy(net, loss, data, known, draw=draw)
    >>> with torch.no_grad():
    ...     _ = net[0].weight.mul_(0.5)
    >>> gradient_energy(net, loss, data, known, draw=draw).growth_since(before)
    gradients of 1 charges ×2.000 (geometric means), by
    norm ×2.000, curvature ×1.000, mean gradient ×1.000, calibration ×1.000; 100% explained
    """
    model = as_module(model, params)
    require_batches(batches)
    if len(batches) < 2:
        raise ValueError("batches has 1 batch; give at least 2, independent of each other, to tell mean from noise")
    trained = trainable_parameters(model)
    scales, others = _alike(symmetries.of_kind("scale"), trained)
    if not scales.charges:
        over = f"; passed over: {', '.join(others)}, which scale their parameters by different powers" if others else ""
        raise ValueError(
            f"no family is a scale |θ_A|², and gradients of other parameters obey no law of a norm{over}; scale "
            "families belong to weights before a norm"
        )
    held = {name: trained[name] for name in scales.parameters}
    with left_as_found(model, loss_fn, draw, batches):
        total = torch.zeros(scales.charges, dtype=torch.float64)
        drawn, added = total.clone(), {name: torch.zeros_like(p) for name, p in held.items()}
        for number, batch in enumerate(batches):
            with running_on(batches, number):
                objective = Objective(model, loss_fn, batch, seed + number)
                gradient = objective.gradient(held)[1]
            total += scales.pair(gradient, gradient).cpu()
            added = {name: added[name] + gradient[name] for name in held}
            if draw is not None:
                drawn += _drawn_energy(objective, model, draw, held, scales, seed + number)
        both = scales.pair(added, added).cpu()
    count = len(batches)
    mean = (both - total) / (count * (count - 1))
    curvature = torch.full_like(drawn, torch.nan) if draw is None else drawn / count
    norms, energies, mean_part, curved = (
        each.numpy() for each in (scales.charge(held).cpu(), total / count, mean, curvature)
    )
    return GradientEnergy(scales.labels, norms, energies, mean_part, curved, others)


def _drawn_energy(
    objective: Objective,
    model: nn.Module,
    draw: Callable[[nn.Module, Any], Any],
    held: Mapping[str, Tensor],
    scales: Symmetries,
    seed: int,
) -> Tensor:
    """|g'|² for labels that the model draws, under random numbers that the loss does not see again."""
    # The loss of every batch starts its random numbers at its seed: labels must not be drawn with the same ones.
    with torch.no_grad():
        torch.default_generator.manual_seed(seed + 2**32)
        labelled = draw(model, objective.batch)
    gradient = objective.on(labelled).gradient(held)[1]
    return scales.pair(gradient, gradient).cpu()


def _alike(scales: Symmetries, params: Mapping[str, Tensor]) -> tuple[Symmetries, tuple[str, ...]]:
    """The families that scale all their elements alike, and the names of the others."""
    others = tuple(family.name for family in scales if not _is_alike(family, params))
    return replace(scales, families=tuple(family for family in scales if family.name not in others)), others


def _is_alike(family: Family, params: Mapping[str, Tensor]) -> bool:
    ones, zeros = ({n: torch.full_like(params[n], value) for n in family.parameters} for value in (1.0, 0.0))
    for _, weights in family.units():
        there, origin = family.generator(ones, weights), family.generator(zeros, weights)
        if any(bool(((p := there[name] - origin[name]) != 0).logical_and(p != 1).any()) for name in there):
            return False
    return True
