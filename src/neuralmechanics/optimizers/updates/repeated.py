"""What serves again from step to step: updates that are told by the very same tensors, the memory of copies."""

from __future__ import annotations

import torch
from torch import Tensor

from neuralmechanics.optimizers.hyperparameters.setting import Setting
from neuralmechanics.optimizers.updates.update import PLAIN, Update, dense

__all__ = ["Repeated", "copy_of"]


class Repeated:
    """The last update of each parameter, as long as parameter, momentum and setting are the same objects."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Tensor | None, Update]] = {}

    def kept(self, name: str, parameter: Tensor, buffer: Tensor | None, update: Update) -> Update:
        """Remember an update that holds the momentum itself, of a parameter that lies in one place; returns it."""
        own = update.velocity is buffer and update.copied is None and type(parameter) in PLAIN
        if own and update.left is not None and not update.addend and not update.absorbed:
            self._known[name] = buffer, update
        return update

    def again(
        self, name: str, parameter: Tensor, buffer: Tensor | None, setting: Setting, *, first: bool
    ) -> Update | None:
        """The same update with the gradient of this step; None where anything else has changed."""
        velocity, update = self._known.get(name, (None, None))
        slope = parameter.grad
        if update is None or update.setting is not setting or update.first_step is not first or buffer is not velocity:
            return None
        if slope is None or type(slope) is not Tensor or slope.layout is not torch.strided:
            return None
        dtype, after = parameter.dtype, update.after
        if after.dtype is not dtype or (buffer is not None and buffer.dtype is not dtype):
            return None
        if not after.is_set_to(parameter):
            return None
        update.renew(slope.detach() if slope.requires_grad else slope)
        return update

    def release(self) -> None:
        """Keep no gradient alive beyond its step."""
        for _, update in self._known.values():
            update.renew(None)


def copy_of(parameter: Tensor, kept: Tensor | None) -> Tensor:
    """What this process holds of a parameter, copied; the memory of the last copy serves again at every step."""
    now = dense(parameter.detach())
    if kept is not None and kept.shape == now.shape and kept.dtype == now.dtype:
        return kept.copy_(now)
    return now.clone()
