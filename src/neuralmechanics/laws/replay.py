"""A law driven from what a run recorded at every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.laws.charge_law import ChargeLaw
from neuralmechanics.laws.state import require_tensor
from neuralmechanics.laws.step import Drives, Hyperparameters, Law


@dataclass(frozen=True)
class DriveHistory:
    """Everything the laws are fed in a run: the charges at its start and per step hyperparameters and drives.

    `drives` holds each measured drive stacked to [steps, charges]. `companion0` is ⟨θ,v⟩ (translations ⟨v,1_A⟩)
    where recording began with a momentum buffer in use. `quadratic` tells quadratic charges from translations, where it
    is known: laws are made with it, `ExactLaw(history.quadratic)`. Raises ValueError when the lengths disagree.
    """

    charge0: Float64[Tensor, " charges"]
    hyperparameters: Sequence[Hyperparameters]
    drives: Drives
    companion0: Float64[Tensor, " charges"] | None = None
    quadratic: Bool[Tensor, " charges"] | None = None

    def __post_init__(self) -> None:
        require_tensor("charge0", self.charge0)
        given_list: object = self.hyperparameters
        if isinstance(given_list, str) or not isinstance(given_list, Sequence):
            given = type(given_list).__name__
            raise TypeError(f"hyperparameters is a {given}; give a list of Hyperparameters, one a step")
        expected = [len(self.hyperparameters), *self.charge0.shape]
        for name, drive in self._measured().items():
            require_tensor(f"drive {name}", drive)
            if list(drive.shape) != expected:
                raise ValueError(
                    f"drive {name} has shape {list(drive.shape)}, the history has {expected[0]} steps of "
                    f"{list(self.charge0.shape)} charges; stack one row a step"
                )

    def __len__(self) -> int:
        return len(self.hyperparameters)

    def step(self, index: int) -> tuple[Hyperparameters, Drives]:
        """What the laws are fed at step `index`."""
        drives = {name: drive[index] for name, drive in self._measured().items()}
        return self.hyperparameters[index], Drives(**drives)

    def _measured(self) -> dict[str, Tensor]:
        if not isinstance(self.drives, Drives):
            raise TypeError(f"drives is a {type(self.drives).__name__}; give Drives(update_energy=…)")
        named = {field.name: getattr(self.drives, field.name) for field in fields(Drives)}
        return {name: drive for name, drive in named.items() if drive is not None}


def replay(law: Law, history: DriveHistory) -> Float64[Tensor, "steps_and_one charges"]:
    """The charges `law` predicts before the first and after every step; starts the law.

    Raises ValueError where the law takes charges for quadratic that the history tells to be translations, or the other
    way round.

    >>> from neuralmechanics.laws import GradientFlowLaw
    >>> history = DriveHistory(torch.ones(1, dtype=torch.float64), [Hyperparameters(0.1, 5.0)] * 2, Drives())
    >>> replay(GradientFlowLaw(), history).squeeze(1)
    tensor([1.0000, 0.3679, 0.1353], dtype=torch.float64)
    """
    if isinstance(law, (type, str)) or not hasattr(law, "start"):
        given = law.__name__ if isinstance(law, type) else repr(law)
        raise TypeError(f"{given} is no law that can be started; give one that is made, such as ExactLaw(quadratic)")
    if not isinstance(history, DriveHistory):
        raise TypeError(f"a {type(history).__name__} is no history of drives; give run.drive_history()")
    law.start(history.charge0, history.companion0)
    _require_degrees(law, history)
    path = [law.value]
    for index in range(len(history)):
        law.step(*history.step(index))
        path.append(law.value)
    return torch.stack(path)


def _require_degrees(law: Law, history: DriveHistory) -> None:
    """ValueError where law and history differ in which charges are quadratic; nothing where one does not say it."""
    taken = law.state_dict().get("quadratic") if isinstance(law, ChargeLaw) else None
    known = history.quadratic
    if taken is None or known is None or torch.equal(taken.cpu(), known.cpu()):
        return
    wrong = int((taken.cpu() != known.cpu()).sum())
    raise ValueError(
        f"the {law.name} law takes {wrong} of {len(known)} charges for what they are not (quadratic, or translations); "
        f"make it with the history's mask: {type(law).__name__}(history.quadratic)"
    )
