"""How charges move under each model: the table flow × kind of charge, and the closed laws behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.flows.edge.central_flow import CentralFlow
from neuralmechanics.flows.edge.edge_flow import EdgeFlow
from neuralmechanics.flows.edge.rod_flow import RodFlow
from neuralmechanics.flows.equation.charges import Charges, PairedCharges
from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Objective
from neuralmechanics.flows.equation.system import Flow
from neuralmechanics.flows.integration.integrate import integrate
from neuralmechanics.flows.integration.path import Path
from neuralmechanics.flows.models.descent import initial_speed, loss_correction
from neuralmechanics.flows.models.gradient_flow import GradientFlow, MomentumFlow
from neuralmechanics.flows.models.modified_flow import ModifiedFlow
from neuralmechanics.flows.models.modified_loss import ModifiedLoss

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["drift_by_kind", "drift_table", "law_rate"]


def drift_by_kind(path: Path, kinds: Sequence[str]) -> dict[str, float]:
    """Largest |Q(t) - Q(0)| over times and charges of each kind, relative to that kind's largest |Q(0)|.

    A kind whose charges all start at 0 is measured in absolute terms.
    """
    if path.charges is None:
        raise ValueError(f"{path.label or 'the path'} has no charges: integrate(…, symmetries=…) records them")
    found = {}
    for kind in dict.fromkeys(kinds):
        own = path.charges[:, [index for index, other in enumerate(kinds) if other == kind]]
        # The largest of its kind: a charge that starts near 0 would make every drift look large.
        size = float(own[0].abs().max())
        found[kind] = float((own - own[0]).abs().max()) / (size if size > 0 else 1.0)
    return found


def drift_table(
    flows: Mapping[str, Flow],
    theta0: Mapping[str, Tensor],
    times: Sequence[float] | Tensor,
    symmetries: Charges,
    method: str = "auto",
    *,
    step: float | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    paths: Mapping[str, Path] | None = None,
) -> pd.DataFrame:
    """One row a flow, one column a kind of charge: the relative drift; ``paths`` adds rows already computed.

    Under gradient flow without decay the entries are the integrator's error; elsewhere they are the broken laws.
    """
    import pandas as pd

    rows = {}
    for name, path in (paths or {}).items():
        rows[name] = drift_by_kind(path, symmetries.kinds)
    for name, flow in flows.items():
        path = integrate(flow, theta0, times, symmetries, method, step=step, rtol=rtol, atol=atol)
        rows[name] = drift_by_kind(path.require_completed(), symmetries.kinds)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("flow")


def law_rate(
    flow: GradientFlow | MomentumFlow | ModifiedLoss | ModifiedFlow | CentralFlow | RodFlow | EdgeFlow,
    params: Mapping[str, Tensor],
    symmetries: PairedCharges,
) -> Float64[Tensor, " charges"]:
    """Q' by the flow's closed law, from the charge and the gradient alone, for exact symmetries.

    Gradient flow: (1-β)Q' = -2λQ. Modified loss: (1-β)Q' = -(2λ + 4cλ²)Q + 4c⟨g, Mg⟩. Translations: half the decay
    and no gradient, -(λ + 2cλ²)q. The second-order flow has a velocity of its own; at ``params`` it starts with
    Q' = -2cλQ, c = 1/(1+β) for heavy ball, and goes on by the oscillator m Q'' + (1-β)Q' + 2λQ = 2mW of
    ``laws.ModifiedFlowLaw``. A series of order n has no closed law. Source: theory, sections 3.1 and 3.2.
    Central flow: Q' = -2λQ + 2tr(M(H-λ)Σ), which is (4/η - 2λ)tr(MΣ) at the edge: what descent's η⟨g, Mg⟩ is on average
    over the oscillation, the rest η⟨ḡ, Mḡ⟩ apart. Rod and edge flow, at their start from ``params``: the same with
    ⟨v, M(g₊ - g₋)/2⟩ for tr(MHΣ), exactly.
    """
    if isinstance(flow, CentralFlow | RodFlow | EdgeFlow):
        return _oscillating_rate(flow, params, symmetries)
    if isinstance(flow, ModifiedFlow):
        if flow.order is not None:
            raise ValueError(f"{flow.label} has no closed law: measure its drift with drift_table")
        # At time 0 the velocity is -cG, and ⟨G, ξ⟩ = λ⟨θ, ξ⟩ by the symmetry.
        pushed = 0.0 if flow.at_rest else initial_speed(flow.sgd) * flow.weight_decay
        now = symmetries.residual(params, params).to(torch.float64)
        return -pushed * torch.where(symmetries.quadratic.to(torch.bool), 2 * now, now)
    momentum = 0.0 if isinstance(flow, GradientFlow) else flow.momentum
    correction = loss_correction(flow.sgd) if isinstance(flow, ModifiedLoss) else 0.0
    layout = Layout.of(params)
    point = layout.flatten(params)
    slope = layout.unflatten(Objective(flow.loss, layout).gradient(point))
    named = layout.unflatten(point)
    quadratic = symmetries.quadratic.to(torch.bool)
    # ∇|∇J|² = 2(H + λ)G along the generator leaves λ²Q and ⟨g, Mg⟩ alone.
    decay = flow.weight_decay + 2 * correction * flow.weight_decay**2
    charge = symmetries.residual(named, named).to(torch.float64)  # of one about zero
    squares = symmetries.pair(slope, slope)
    rate = torch.where(quadratic, 4 * correction * squares - 2 * decay * charge, -decay * charge)
    return rate / (1 - momentum)


def _oscillating_rate(
    flow: CentralFlow | RodFlow | EdgeFlow, params: Mapping[str, Tensor], symmetries: PairedCharges
) -> Tensor:
    if isinstance(flow, CentralFlow):
        about = flow.oscillation(params)
    else:
        layout = Layout.of(params)
        params, swing = map(layout.unflatten, torch.split(flow.system(params).initial, layout.size))
        about = flow.oscillation(params, swing)
    charge = symmetries.residual(params, params).to(torch.float64)  # of one about zero
    factor = torch.where(symmetries.quadratic.to(torch.bool), 2.0, 1.0).to(torch.float64)
    work = about.work(symmetries) - flow.weight_decay * about.spread(symmetries)
    return 2 * work - factor * flow.weight_decay * charge
