"""The checks behind ``lint``: each reads symmetries, and settings or measured breakings, and yields findings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from neuralmechanics.diagnostics.linting.measured_breaking import MeasuredBreaking
from neuralmechanics.diagnostics.linting.rates import Rates
from neuralmechanics.diagnostics.linting.report import Finding
from neuralmechanics.symmetry.families.family import Family
from neuralmechanics.symmetry.families.symmetries import Symmetries, UnknownOperation

__all__ = [
    "broken_symmetries",
    "not_optimised",
    "scale_free_weights",
    "states_of_parameters",
    "uneven_settings",
    "zero_gradients",
]

Sizes = Mapping[str, int]


def zero_gradients(symmetries: Symmetries, sizes: Sizes) -> Iterator[Finding]:
    """Translations of one element alone: ⟨g, 1_A⟩ = g_i = 0 for every batch."""
    dead: dict[str, int] = {}
    for family in symmetries:
        if family.kind == "translation":
            for name, count in _lone_elements(family).items():
                dead[name] = dead.get(name, 0) + count
    for name, count in dead.items():
        reason = _subtracted(symmetries, name)
        yield Finding(
            "zero-gradient",
            "warning",
            (name,),
            count,
            f"the gradient of {_portion(count, sizes[name])} is zero whatever the data: {reason}",
            "leave it out (bias=False): only decay moves it, and the rounding that adaptive steps amplify",
        )


def _lone_elements(family: Family) -> dict[str, int]:
    """How many charges of a family move one element of one parameter and nothing else."""
    counts = family.action.elements_moved()
    total = sum(counts.values(), np.zeros(family.charges, dtype=np.int64))
    alone = {name: int(((count == 1) & (total == 1)).sum()) for name, count in counts.items()}
    return {name: number for name, number in alone.items() if number}


def _subtracted(symmetries: Symmetries, name: str) -> str:
    for family in symmetries.of_kind("scale"):
        if name in family.parameters:
            norms = ", ".join(dict.fromkeys(b.where for b in family.broken_by))
            return f"the norm that follows{f' ({norms})' if norms else ''} subtracts it"
    if any(name in family.parameters for family in symmetries.of_kind("linear")):
        return "it adds the same to the scores of all keys, which softmax does not see"
    return "what follows (a softmax or a centring norm) subtracts it"


def _portion(count: int, size: int) -> str:
    if count == size:
        return f"all {size} elements" if size > 1 else "its one element"
    return f"{count} of {size} elements"


def scale_free_weights(symmetries: Symmetries, sizes: Sizes, rates: Mapping[str, Rates]) -> Iterator[Finding]:
    """Scale families, one finding a setting: n = |θ_A|² grows for ever, or settles where decay balances steps.

    Not those of θ + c: decay pulls them towards c, which is no equilibrium of that kind.
    """
    by_setting: dict[Rates, list[str]] = {}
    about_zero = [f for f in symmetries.of_kind("scale") if f.action.centred is f.action]
    for name in _members(about_zero):
        if name in rates:
            by_setting.setdefault(rates[name], []).append(name)
    for setting, names in by_setting.items():
        elements = sum(sizes[name] for name in names)
        if setting.weight_decay == 0:
            yield Finding(
                "scale-free-without-decay",
                "note",
                tuple(names),
                elements,
                "only their direction matters and every step lengthens them: the effective learning rate only falls",
                "add weight decay to hold it up, or count this as part of the learning rate schedule",
            )
            continue
        angle = setting.rotation
        settles = f", in equilibrium a turn of {angle:.3g} a step" if angle is not None and math.isfinite(angle) else ""
        yield Finding(
            "scale-free-with-decay",
            "note",
            tuple(names),
            elements,
            f"only their direction matters: weight decay {setting.weight_decay:g} does not simplify the function, it "
            f"sets the effective learning rate{settles}",
            "tune learning rate times weight decay as one number for these weights",
        )


def uneven_settings(symmetries: Symmetries, sizes: Sizes, rates: Mapping[str, Rates]) -> Iterator[Finding]:
    """Families whose parameters differ in decay or learning rate, those with the same differences together."""
    # A parameter that no group holds stands still: its learning rate is 0, and it has no decay to be compared.
    missing = Rates(0.0)
    gathered: dict[tuple[str, tuple[float, ...]], list[Family]] = {}
    for family in symmetries.charged:
        settings = [rates.get(name, missing) for name in family.parameters]
        for code, values in (
            ("uneven-decay", [s.weight_decay for s in settings if s != missing]),
            ("uneven-learning-rate", [s.learning_rate for s in settings]),
        ):
            distinct = tuple(sorted(set(values)))
            if len(distinct) > 1:
                gathered.setdefault((code, distinct), []).append(family)
    for (code, found), families in gathered.items():
        what = "weight decays" if code == "uneven-decay" else "learning rates"
        names = _members(families)
        several = f"{len(families)} families" if len(families) > 1 else f"family {families[0].name!r}"
        yield Finding(
            code,
            "warning",
            names,
            sum(sizes[name] for name in names),
            f"{what} {', '.join(f'{v:g}' for v in found)} inside {several}: no closed law holds for these charges",
            f"give all parameters of a family one of the {what}, or read the general identity instead of the law",
        )


def not_optimised(symmetries: Symmetries, sizes: Sizes, rates: Mapping[str, Rates]) -> Iterator[Finding]:
    """Trainable parameters that no parameter group holds."""
    names = tuple(c.parameter for c in symmetries.coverage if c.status != "frozen" and c.parameter not in rates)
    if names:
        yield Finding(
            "not-optimised",
            "warning",
            names,
            sum(sizes[name] for name in names),
            "they require a gradient, but no parameter group holds them",
            "add them to a group, or freeze them with requires_grad_(False)",
        )


def broken_symmetries(
    measured: Iterable[MeasuredBreaking], symmetries: Symmetries, sizes: Sizes, noticeable: float
) -> Iterator[Finding]:
    """Constants whose part of the gradient along a generator is above ``noticeable``."""
    for row in measured:
        size = row.residual if math.isnan(row.contribution) else row.contribution
        if size <= noticeable:
            continue
        names = symmetries[row.family].parameters
        share = "" if math.isnan(row.share) else f", up to {row.share:.2g} of the variance it is added to"
        yield Finding(
            "broken-symmetry",
            "warning",
            names,
            sum(sizes[name] for name in names),
            f"{row.constant}={row.value:g} of {row.where}{share}, leaves {size:.2g} of the gradient along the "
            f"generator of {row.family!r}",
            f"lower {row.constant}, raise the scale of what enters {row.where}, or expect its charge to drift",
        )


def states_of_parameters(symmetries: Symmetries, sizes: Sizes, moving: frozenset[str]) -> Iterator[Finding]:
    """Unknown operations with what they end; unused and frozen parameters.

    ``moving``: those that the graph has no path from, and that have a gradient all the same.
    """
    for operation in symmetries.unknown:
        names = tuple(
            c.parameter for c in symmetries.coverage if c.status == "unknown" and c.ended_by == str(operation)
        )
        yield Finding(
            "unknown-operation",
            "warning",
            names,
            sum(sizes[name] for name in names),
            f"{_cause(operation)}: what enters it is taken as fixed, so symmetries may be missing",
            "write the step with known operations, or register a rule for it",
        )
    outside = tuple(c.parameter for c in symmetries.coverage if c.status == "unused" and c.parameter in moving)
    if outside:
        yield Finding(
            "outside-graph",
            "warning",
            outside,
            sum(sizes[name] for name in outside),
            "they have a gradient, but the captured graph has no path from them: part of the model is computed outside "
            "torch",
            "write that part in torch operations, or as a custom operation with a rule; nothing is claimed of them",
        )
    unused = tuple(c.parameter for c in symmetries.coverage if c.status == "unused" and c.parameter not in moving)
    if unused:
        yield Finding(
            "unused",
            "warning",
            unused,
            sum(sizes[name] for name in unused),
            "the graph has no path from them to the output, on this batch",
            "remove them, or use a batch that takes the branch which reads them",
        )
    frozen = tuple(c.parameter for c in symmetries.coverage if c.status == "frozen")
    if frozen:
        yield Finding(
            "frozen",
            "note",
            frozen,
            sum(sizes[name] for name in frozen),
            "they do not train, so symmetries that would move them do not count",
            "nothing, if this is meant; otherwise requires_grad_(True)",
        )


def _cause(operation: UnknownOperation) -> str:
    if operation.reason:
        return f"at {operation.where} {operation.reason}"
    return f"there is no rule for {operation}"


def _members(families: Sequence[Family] | Symmetries) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for family in families for name in family.parameters))
