"""What is said of a step: decay that it cannot bear, gradients that no process knows, momentum that was written."""

from __future__ import annotations

from collections.abc import Sequence

from neuralmechanics.monitor.following.tracker import DRIVEN_BY_GRADIENT
from neuralmechanics.monitor.warning import Notes


def tell_of_divergence(notes: Notes, step: int, strength: float) -> None:
    """A strength of decay above 2 (see `laws.decay_strength`) makes parameters grow by itself."""
    if strength > 2:
        notes.tell(
            "divergence",
            step,
            f"at step {step} learning rate times weight decay is {strength / 2:.3g} times what training can bear: "
            "parameters without gradient grow at every step, whatever the laws say; lower one of the two",
        )


def tell_of_addends(notes: Notes, step: int, name: str, laws: Sequence[str]) -> None:
    """A gradient that is the sum of what several processes hold has no square that one of them knows."""
    if withheld := [law for law in laws if law in DRIVEN_BY_GRADIENT]:
        notes.tell(
            "addends",
            step,
            f"the gradient of {name!r} lies in several processes, whose sum it is, so its square is not known: "
            f"{' and '.join(withheld)} cannot be followed for the charges that it enters; other laws can",
        )


def tell_of_momentum(notes: Notes, step: int, name: str) -> None:
    """A momentum that something other than the optimiser wrote."""
    notes.tell(
        "momentum",
        step,
        f"before step {step} something other than the optimiser wrote the momentum of {name!r} (a loaded state?): the "
        "laws begin anew from the present charges there",
    )
