"""What is watched at every record: nothing else moved the charges, and the symmetries hold in this loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor, nn

from neuralmechanics.monitor.following.members import Members
from neuralmechanics.monitor.following.parameters import require_same
from neuralmechanics.monitor.following.watching.cancellation import Cancellation
from neuralmechanics.monitor.following.watching.ledger import Ledger, SoundSteps
from neuralmechanics.monitor.following.watching.precision import Precision
from neuralmechanics.monitor.following.watching.reasons import Reason, why_broken
from neuralmechanics.monitor.processes.portion import Energies, Portion
from neuralmechanics.monitor.warning import Notes
from neuralmechanics.optimizers import dense
from neuralmechanics.optimizers.hyperparameters.sgd import Sgd
from neuralmechanics.symmetry import Symmetries

# Roundings of a law in one step: the parameter's, the update's, the gradient's, and one to spare.
_ROUNDINGS = 4
# Constants that leave less than half of the digits of double precision break nothing that could be seen.
_NEGLIGIBLE = float(torch.finfo(torch.float64).eps) ** 0.5


@dataclass(frozen=True, eq=False)
class Finding:
    """Charges whose symmetry the loop breaks, on the host, and why."""

    charges: Bool[Tensor, " charges"]
    reason: Reason


class Watchdog:
    """Judges, from what is measured at a record anyway, whether what the laws assume is so.

    Between records nothing is read: tallies grow on the device, each process's share of them.
    """

    def __init__(
        self,
        model: nn.Module,
        symmetries: Symmetries,
        params: Mapping[str, Tensor],
        members: Members,
        notes: Notes,
        portion: Portion,
        energies: Energies,
    ) -> None:
        self._energies = energies
        self._model = model
        self._symmetries = symmetries
        self._params = dict(params)
        self._members = members
        self._notes = notes
        self._precision = Precision()
        device = next(iter(params.values())).device
        self._portion = portion
        self._types = self._stored_types()
        self._ledger = Ledger(self._stored(), self.sizes)
        self._cancellation = Cancellation(symmetries, members.single(), portion, energies)
        self._unit = 0.0
        # Beside sizes in double precision a float of 32 bits has digits and range enough.
        self._spent = torch.zeros(len(symmetries.labels), dtype=torch.float32, device=device)
        self._reach: float | Tensor = 0.0
        self._gradients: Mapping[str, Tensor] = {}
        self._sound_steps = SoundSteps(device)
        self._steps = self._step = 0

    def attach(self) -> None:
        """Look at the model's precision from now on."""
        self._precision.attach(self._model)

    def close(self) -> None:
        """Let go of the model."""
        self._precision.close()

    def _stored_types(self) -> list[torch.dtype]:
        return [p.dtype for p in self._params.values()]

    def _stored(self) -> Float64[Tensor, " charges"]:
        """The coarsest precision that the parameters of each charge are stored with."""
        each = {name: float(torch.finfo(p.dtype).eps) for name, p in self._params.items()}
        alike = len(set(each.values())) == 1  # one number then stands for all
        precision = torch.tensor(next(iter(each.values()))) if alike else self._members.largest(each)
        device = next(iter(self._params.values())).device
        return precision.double().expand(len(self._symmetries.labels)).to(device)

    def _settled(self, charge: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """What the ledger says; a model that was moved to fewer digits since was moved by that, too."""
        settled = self._ledger.settle(charge, known, self._portion.total)
        if (types := self._stored_types()) != self._types:
            self._types = types
            self._ledger.round(self._stored())
        return settled

    @property
    def scaled_calls(self) -> int:
        """How often the model was called so far for gradients that a scaler belongs to."""
        return self._precision.scaled_calls

    @property
    def unit(self) -> float:
        """The coarsest precision that was seen, at least that of the stored parameters."""
        return max(self._unit, *(float(torch.finfo(p.dtype).eps) for p in self._params.values()))

    def sizes(self) -> Float64[Tensor, " charges"]:
        """The sizes of the charges now, in one pass over the parameters."""
        return self._portion.sizes(self._params, energies=self._energies)

    def open(self, size: Float64[Tensor, " charges"]) -> None:
        """Begin at measured charges of these sizes."""
        self._ledger.open(size)
        self._size = size

    def add(
        self, known: Tensor, done: Tensor, claimed: Tensor | None, *, exact: bool, hyper: Sgd[float | Tensor]
    ) -> None:
        """One step: the charges that are due after it, the changes that it made, those that the optimiser's formula
        says it made, and its settings."""
        self._ledger.add(known, done, claimed, exact=exact)
        # A residual ρ moves a charge by pηρ/(1-β) before momentum has forgotten it.
        self._reach = self._reach + hyper.learning_rate / (1 - hyper.momentum)
        self._sound_steps.add(self._ledger.gross)
        self._steps += 1

    def require_same(self) -> None:
        """Raises RuntimeError where the model holds other parameters than those that are followed."""
        require_same(self._model, self._symmetries, self._params)

    def settle(
        self, step: int, charge: Float64[Tensor, " charges"], known: Float64[Tensor, " charges"]
    ) -> tuple[Tensor, Bool[Tensor, " charges"] | None]:
        """What moved the charges outside the optimiser, and where that is more than rounding (None: nowhere).

        Where it is not, what is told is rounding alone; with None nothing else is.

        `known`: this process's share of what they are after all that the optimiser did.
        """
        self._step = step
        self._name_numbers(step, charge)
        self._spent.add_(self._ledger.gross)
        outside, moved = self._settled(charge, known)
        if not bool(moved.any()):
            return outside, None
        self._tell_moved(step, outside, moved)
        self._spent.masked_fill_(moved, 0.0)
        return torch.where(moved, outside, 0.0), moved

    def _tell_moved(self, step: int, outside: Tensor, moved: Tensor) -> None:
        unknown = moved & ~outside.isfinite()
        if bool(unknown.any()):
            self._notes.tell(
                "set back",
                step,
                f"before step {step} the training became nan or infinite, and something other than the optimiser set "
                f"{self._some(unknown)} back (loaded weights?): how far it moved them is not known and recorded as "
                "infinity in `outside`, the laws begin anew there",
            )
        moved = moved & ~unknown
        if not bool(moved.any()):
            return
        share = (outside.abs() / self.sizes())[moved].max()
        self._notes.tell(
            "outside",
            step,
            f"by step {step} something other than the optimiser moved {self._some(moved)}, by up to {float(share):.1e} "
            "of their size since the record before (a projection, an average, a write through .data, another "
            "optimiser, loaded weights, fewer digits?); what it moved is recorded as `outside` and the laws begin anew "
            "there",
        )

    def judge(
        self, residual: Float64[Tensor, " charges"], gradients: Mapping[str, Tensor], followed: Tensor
    ) -> list[Finding]:
        """Where ⟨g,ξ⟩ is more than rounding among the charges that closed laws are followed for, and why."""
        params = {name: dense(p.detach()) for name, p in self._params.items()}
        self._gradients = gradients
        unit = torch.tensor(self._precision.unit(gradients, params), dtype=torch.float64)
        self._unit = max(self._unit, float(self._portion.largest(unit)))
        broken = self._cancellation.broken(residual, gradients, params, self._unit, followed.cpu())
        return self._explained(broken, gradients)

    def compare(
        self, steps: int, charge: Tensor, exact: Tensor | None, identity: Tensor | None, followed: Tensor
    ) -> tuple[Tensor | None, list[Finding]]:
        """Where the identity (None: nowhere) and where the exact law left the measured charge.

        Nothing else moved it there. No loop can break the identity, so it was fed what was not so. Where the exact
        law alone is wrong, ⟨g,ξ⟩ ≠ 0 between the records. Both are this process's shares, None where not followed.
        """
        spent, *known = self._portion.total(self._spent, *(law for law in (exact, identity) if law is not None))
        if not known or self._unit == 0:
            return None, []
        departed = torch.zeros_like(followed)
        if identity is not None:
            departed = self._beyond(steps, known[-1] - charge, spent, followed)
        if bool(departed.any()):
            self._tell_departed(departed)
        left = torch.zeros_like(followed)
        if exact is not None:
            watched = followed & ~departed & self._cancellation.sound(_NEGLIGIBLE).to(followed.device)
            left = self._beyond(steps, known[0] - charge, spent, watched)
        return (departed if bool(departed.any()) else None), self._explained(left.cpu(), {})

    def _beyond(self, steps: int, error: Tensor, spent: Tensor, watched: Tensor) -> Tensor:
        """Where, of the charges that are watched, a law is off by more than half of the digits of the charge's size and
        what roundings may have made.

        Roundings of parameters and updates, and of gradients, which move the sum of biases before a norm where nothing
        else does.
        """
        # Half of the digits of the size alone nearly always do: the other terms only add to them.
        size = error.abs()
        if not bool(torch.gt(size, self._unit**0.5 * self._size).logical_and_(watched).any()):
            return torch.zeros_like(watched)

        def beyond() -> Tensor:
            rounding = _ROUNDINGS * self._unit * (steps * self._size + spent)
            gradients = self._cancellation.allowed(self._unit).to(error.device) * self._reach
            return torch.gt(size, self._unit**0.5 * self._size + rounding + gradients) & watched

        found = beyond()
        if bool(found.any()):
            self._size = torch.maximum(self._size, self.sizes())
            self._cancellation.look(self._gradients, self._params)
            found = beyond()
        return found

    def _tell_departed(self, charges: Tensor) -> None:
        self._notes.tell(
            "departed",
            self._step,
            f"by step {self._step} the identity had left {self._some(charges)}: momentum was written through .data, or "
            "the gradient that lay there when a step had ended is not the one that it used; the laws begin anew there",
        )
        self._spent.masked_fill_(charges, 0.0)

    def report(self, step: int, findings: Sequence[Finding], moved: Tensor | None) -> Tensor | None:
        """Say what was found, and where closed laws end by it; not where something else moved the parameters.

        There the residual was taken at parameters that the step did not begin with.
        """
        self._gradients = {}
        ended = torch.zeros(len(self._symmetries.labels), dtype=torch.bool)
        # A family that is judged as a whole is excused as a whole.
        excused = self._cancellation.whole_families(ended.clone() if moved is None else moved.cpu())
        for finding in findings:
            mask = finding.charges & ~excused
            if bool(mask.any()):
                ended |= mask
                self._notes.tell(
                    f"broken: {finding.reason.kind}",
                    step,
                    f"at step {step} the gradient does not obey the symmetry of {self._some(mask)}: "
                    f"{finding.reason.text}; the closed laws are nan for them from here on, the identity continues",
                )
        return ended if bool(ended.any()) else None

    def _explained(self, broken: Tensor, gradients: Mapping[str, Tensor]) -> list[Finding]:
        found: dict[str, Finding] = {}
        offsets = self._symmetries.offsets
        for family, begin, end in zip(self._symmetries.charged, offsets, offsets[1:], strict=False):
            if not bool(broken[begin:end].any()):
                continue
            reason = why_broken(self._model, gradients, family)
            mask = torch.zeros_like(broken)
            mask[begin:end] = broken[begin:end]
            known = found.get(reason.kind)
            found[reason.kind] = Finding(mask, reason) if known is None else Finding(mask | known.charges, known.reason)
        return list(found.values())

    def _name_numbers(self, step: int, charge: Tensor) -> None:
        # A finite sum has finite terms alone, and costs less to tell than what is not finite in it.
        if bool(charge.sum().isfinite()):
            return
        bad = ~torch.isfinite(charge)
        if bool(bad.any()):
            sound = -self._portion.largest(-self._sound_steps.total().double())
            first = min(step, step - self._steps + int(sound) + 1)
            self._notes.tell(
                "not a number",
                first,
                f"{self._some(bad)} are no finite numbers any more, from step {first} on: the training itself became "
                "nan or infinite there, and no law speaks of it",
            )

    def _some(self, mask: Tensor) -> str:
        chosen = mask.cpu()
        example = self._symmetries.labels[int(chosen.to(torch.uint8).argmax())]
        return f"{int(chosen.sum())} charges (such as {example})"
