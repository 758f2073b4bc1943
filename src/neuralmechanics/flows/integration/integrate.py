"""Integration of a flow over given times: one door to all methods, and the record of what happened."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from neuralmechanics.flows.equation.charges import Charges
from neuralmechanics.flows.equation.objective import Loss
from neuralmechanics.flows.equation.system import Field, Flow, System
from neuralmechanics.flows.integration.adaptive import Scheme, Smooth, Track, adaptive_steps
from neuralmechanics.flows.integration.dop853 import DOP853
from neuralmechanics.flows.integration.dormand_prince import DORMAND_PRINCE
from neuralmechanics.flows.integration.fixed_steps import fixed_steps
from neuralmechanics.flows.integration.guard import Guard
from neuralmechanics.flows.integration.path import Path
from neuralmechanics.flows.integration.recorder import Recorder, Visit, follow
from neuralmechanics.flows.integration.steppers import STEPPERS
from neuralmechanics.flows.switching.events import Events, KinkTrack
from neuralmechanics.flows.switching.held_choices import HeldChoices
from neuralmechanics.flows.switching.rules import RULES, kinks_without_rule
from neuralmechanics.optimizers.hyperparameters.bounds import require_positive
from neuralmechanics.progress import Meter

__all__ = ["METHODS", "checked_times", "integrate"]

ADAPTIVE: dict[str, Scheme] = {"dopri5": DORMAND_PRINCE, "dop853": DOP853}
METHODS = ("auto", *STEPPERS, *ADAPTIVE)
# What "auto" takes at the step of the optimiser, up to which order of a series, and the tolerance beyond that order.
_USUAL, _USUAL_ORDER, _FINE = "rk4", 4, (1e-12, 1e-14)
_COARSE = (1e-8, 1e-10)
Kinks = Literal["auto", "locate", "ignore"]
KINKS = ("auto", "locate", "ignore")


def integrate(
    flow: Flow,
    theta0: Mapping[str, Tensor],
    times: Sequence[float] | Tensor,
    symmetries: Charges | None = None,
    method: str = "auto",
    *,
    step: float | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    max_evaluations: int = 200_000,
    max_size: float | None = None,
    estimate_error: bool = True,
    kinks: Kinks = "auto",
    meter: Meter | None = None,
) -> Path:
    """The flow's trajectory from θ(times[0]) = θ0 through all ``times``, in float64.

    ``method``: "euler" (order 1), "midpoint" (2), "rk4" (4), "dopri5-fixed" (5), "dop853-fixed" (8); "gauss2",
    "gauss4", which keep quadratic charges to rounding on smooth losses; or, adaptive to ``rtol`` and ``atol`` (1e-8 and
    1e-10) with dense output, "dopri5" and, for smooth losses and fine tolerances, "dop853". "auto" is "rk4", but
    "dopri5" where a tolerance is given, and for a modified flow of order 5 and more "dop853" ("dopri5" where the loss
    has kinks) to 1e-12 and 1e-14: with the optimiser's step "rk4" would leave an error of order 4 where the flow has
    one of order 8. A tolerance for a method of fixed steps raises ValueError: it would not be kept.
    Fixed steps meet each time exactly, are at most ``step`` long (default: the time of one optimiser step, or half
    the inverse of the field's slope at θ0). ``estimate_error`` runs shorter steps beside those taken: adaptive ones
    halved, at twice the cost again, fixed ones three for two, at one and a half times; without it adaptive steps give
    the sum of their local errors.

    ``kinks`` says what "dopri5" does where a unit switches (ReLU and its kin, max-pooling, absolute values,
    comparisons): "locate" finds the instant on the dense output, integrates the smooth field up to it and the other
    branch's beyond, and slides along the kink where both sides drive at it; "ignore" takes the field as it is, whose
    jumps stall adaptive steps; "auto" locates where the loss has kinks and all of them can be held. Fixed steps
    pass over kinks, at first order.

    Never raises for what happens on the way: see ``Path.reason`` and ``Path.message``. The meter's total is the
    number of times; a meter may raise ``StopIteration`` to end the integration there.

    >>> import torch
    >>> from neuralmechanics.flows import GradientFlow
    >>> path = integrate(GradientFlow(lambda p: 0.5 * p["x"] ** 2), {"x": torch.tensor(1.0)}, [0, 1])
    >>> f"{path.final['x'].item():.6f}", str(path.reason)
    ('0.367879', 'completed')
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, expected one of {', '.join(METHODS)}")
    instants = checked_times(times)
    if kinks not in KINKS:
        raise ValueError(f"kinks is {kinks!r}, expected one of {', '.join(KINKS)}")
    if kinks == "locate" and method != "dopri5":
        raise ValueError(f"kinks='locate' with method={method!r}: only 'dopri5' has the dense output that locates them")
    if max_evaluations < 1:
        raise ValueError(f"max_evaluations is {max_evaluations}, expected 1 or more")
    if not hasattr(flow, "system"):
        remedy = "sample its paths with simulate" if hasattr(flow, "noise") else "give one such as GradientFlow(loss)"
        raise TypeError(f"{type(flow).__name__} is no flow that can be integrated; {remedy}")
    system = flow.system(theta0)
    fine = method == "auto" and system.order is not None and system.order > _USUAL_ORDER
    to_a_tolerance = rtol is not None or atol is not None
    if method == "auto":
        usual = "dopri5" if to_a_tolerance else _USUAL
        method = usual if not fine else "dop853" if _events(flow.loss, system, "auto") is None else "dopri5"
    tolerance = _FINE if fine else _COARSE
    rtol, atol = tolerance[0] if rtol is None else rtol, tolerance[1] if atol is None else atol
    guard = Guard(max_evaluations, system.initial, max_size)
    recorder = Recorder(flow.loss, flow.label, system.layout, symmetries, system.beside)
    adaptive = method in ADAPTIVE
    if to_a_tolerance and not adaptive:
        raise ValueError(f"method={method!r} takes fixed steps, which keep no rtol or atol: give step, or use 'dopri5'")
    events = _events(flow.loss, system, kinks) if adaptive else None
    if events is not None and method != "dopri5":
        raise ValueError(
            f"method={method!r} on a loss with kinks, which it does not locate: use 'dopri5', or kinks='ignore'"
        )

    def visits() -> Iterator[Visit]:
        yield Visit(instants[0], guard.accept(system.initial), 0.0 if estimate_error or adaptive else math.nan)
        if len(instants) == 1:
            return
        if step is not None:
            require_positive("step", step)
        if adaptive:
            track = _track(flow.loss, system, events)
            scheme = ADAPTIVE[method]
            # Beside a run that stops at kinks another one would have to stop at its own.
            yield from adaptive_steps(
                system, instants, guard, rtol=rtol, atol=atol, first_step=step, scheme=scheme, track=track,
                estimate_error=estimate_error and events is None,
            )  # fmt: skip
        else:
            length = step or system.time_step or _natural_step(system, instants, guard)
            yield from fixed_steps(system, instants, STEPPERS[method], length, guard, estimate_error=estimate_error)

    path = follow(visits(), recorder, guard, steps=len(instants), meter=meter)
    if events is None:
        return path
    return replace(path, event_times=torch.tensor(events.times, dtype=torch.float64), slides=events.slides)


def _track(loss: Loss, system: System, events: Events | None) -> Callable[[Field], Track]:
    """What says where a step must end: nothing on a smooth field, a located kink where ``events`` are noted."""
    if events is None:
        return Smooth
    return partial(KinkTrack, loss=loss, layout=system.layout, events=events)


def _events(loss: Loss, system: System, kinks: Kinks) -> Events | None:
    """A record for the crossings, where kinks are to be located; refuses or leaves alone those that no rule holds."""
    if kinks == "ignore":
        return None
    params = system.parameters(system.initial)
    with torch.no_grad(), HeldChoices(RULES) as seen:
        loss(params)
    loose = kinks_without_rule(loss, params)
    if kinks == "locate" and loose:
        raise ValueError(
            f"kinks='locate': the loss runs {', '.join(sorted(loose))} where its branch cannot be held (inside a fused "
            "function, or an operation without a rule): use kinks='ignore', or method='rk4'"
        )
    return Events() if kinks == "locate" or (seen.choices and not loose) else None


def checked_times(times: object) -> list[float]:
    """The output times as floats, refused unless they are finite and increase."""
    if isinstance(times, str) or not isinstance(times, Iterable) or not getattr(times, "shape", (1,)):
        raise TypeError(f"times is {times!r}; give a list of times, such as [0.0, 1.0]")
    instants = [float(time) for time in times]
    if not instants:
        raise ValueError("times is empty: give the start time and at least one more")
    for before, after in itertools.pairwise(instants):
        if not (math.isfinite(before) and math.isfinite(after) and after > before):
            raise ValueError(f"times must be finite and increase, found {before} followed by {after}")
    return instants


def _natural_step(system: System, times: list[float], guard: Guard) -> float:
    """Half the inverse of the field's steepest slope at the start, by power iteration with differences."""
    field = guard.watch(next(system.pieces(times[0], times[-1])).field)
    state = system.initial
    base = guard.accept(field(state))
    along, slope = base, 0.0
    # A few rounds of power iteration: the order of magnitude is enough.
    for _ in range(8):
        length = float(torch.linalg.vector_norm(along))
        if length == 0:
            break
        reach = 1e-6 * (1 + float(torch.linalg.vector_norm(state)))
        along = (field(state + along * (reach / length)) - base) / reach
        slope = float(torch.linalg.vector_norm(along))
    longest = (times[-1] - times[0]) / 20
    # Euler's method, the least stable of all, bears four times as much.
    return min(longest, 0.5 / slope) if slope > 0 and math.isfinite(slope) else longest
