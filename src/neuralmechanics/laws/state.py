"""The memory that all laws share: named tensors of shape [charges] and the drives' checks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float64, Int8
from torch import Tensor

from neuralmechanics.laws.coefficients import Coefficients, identity, require_hyperparameters, resolve
from neuralmechanics.laws.step import Drives, Hyperparameters


class LawState:
    """Named tensors [charges], `quadratic` among them, that a law moves together and saves together."""

    def __init__(self, owner: str, quadratic: Bool[Tensor, " charges"] | None) -> None:
        self._owner = owner
        self._quadratic = quadratic
        self._memory: dict[str, Tensor] = {}
        self._last: tuple[object, Hyperparameters, Coefficients] | None = None
        self._degree: Tensor | None = None
        self._zero: Tensor | None = None
        self.any_quadratic = True

    def start(self, charge0: Float64[Tensor, " charges"], **memory: Tensor) -> None:
        """Forget everything and begin with `charge0`; ValueError when `quadratic` has another shape."""
        given = self._quadratic
        for name, tensor in (("charge0", charge0), ("quadratic", charge0 if given is None else given)):
            require_tensor(name, tensor)
        charge = charge0.detach().to(torch.float64).clone()
        quadratic = torch.ones_like(charge, dtype=torch.bool) if given is None else given.to(charge.device)
        if charge.dim() != 1 or quadratic.shape != charge.shape:
            raise ValueError(
                f"{self._owner} law got charges of shape {list(charge.shape)} and quadratic of shape "
                f"{list(quadratic.shape)}; give both one entry a charge"
            )
        # read once here, so that step never has to: without quadratic charges no energy is asked for
        self.any_quadratic = charge.is_meta or bool(quadratic.any())
        self._memory = {"charge": charge, "quadratic": quadratic, **memory}
        self._last = self._degree = None

    def __getitem__(self, name: str) -> Tensor:
        try:
            return self._memory[name]
        except KeyError:
            raise RuntimeError(f"{self._owner} law has not begun: call start(charge0) first") from None

    def coefficients(self, hyper: Hyperparameters) -> Coefficients:
        """`hyper` resolved beside the charges: the same object as long as `hyper` says the same."""
        # Numbers cannot change in the very same object; a tensor may have been written into.
        if self._last is not None and self._last[1] is hyper and self._last[2].numbers is not None:
            return self._last[2]
        require_hyperparameters(hyper)
        charge, key = self["charge"], identity(hyper)
        if self._last is None or key is None or self._last[0] != key:
            self._last = (key, hyper, resolve(hyper, charge))
        return self._last[2]

    @property
    def degree(self) -> Int8[Tensor, " charges"]:
        """2 for quadratic charges, 1 for translations."""
        if self._degree is None:
            self._degree = 1 + self["quadratic"].to(torch.int8)
        return self._degree

    def move(self, active: Bool[Tensor, " *charges"] | None, **after: Tensor) -> None:
        """Replace the named tensors where `active` (None: everywhere); elsewhere nothing happened."""
        if active is None:
            self._memory.update(after)
            return
        for name, tensor in after.items():
            self._memory[name] = torch.where(active, tensor, self._memory[name])

    def drive(self, name: str, drives: Drives) -> Float64[Tensor, " charges"]:
        """The drive `name` in float64 beside the charges; ValueError when it is missing or of another shape."""
        measured = _measured(name, drives)
        if measured is None:
            raise ValueError(f"{self._owner} law needs the drive {name} at every step, which is None; measure it")
        charge = self["charge"]
        require_tensor(f"drive {name}", measured)
        if measured.shape != charge.shape:
            raise ValueError(
                f"drive {name} has shape {list(measured.shape)}, the {self._owner} law follows "
                f"{list(charge.shape)} charges; give one entry a charge"
            )
        return measured.detach().to(device=charge.device, dtype=torch.float64)

    def energy(self, name: str, drives: Drives) -> Float64[Tensor, " charges"]:
        """The drive `name` with zeros at translations; zeros alone when no charge is quadratic."""
        if not self.any_quadratic:
            return torch.zeros_like(self["charge"])
        measured = self.drive(name, drives)
        if self._zero is None or self._zero.device != measured.device:
            self._zero = torch.zeros((), dtype=torch.float64, device=measured.device)  # a number is made one every time
        return torch.where(self["quadratic"], measured, self._zero)

    def optional(self, name: str, drives: Drives) -> Float64[Tensor, " charges"]:
        """The drive `name`, NaN where it was not measured."""
        if _measured(name, drives) is None:
            return torch.full_like(self["charge"], torch.nan)
        return self.drive(name, drives)

    def velocity(self, drives: Drives, nesterov: bool | Tensor) -> Float64[Tensor, " charges"] | None:
        """P with zeros at translations; None when not measured; ValueError when all Nesterov and missing."""
        if _measured("update_velocity", drives) is None and not (nesterov is True and self.any_quadratic):
            return None
        return self.energy("update_velocity", drives)

    def save(self) -> dict[str, Tensor]:
        """A copy of every tensor; one number that stands for all charges stays one."""
        # For its error alone: a law that has not begun has nothing to save.
        self["charge"]
        return {name: _copied(tensor) for name, tensor in self._memory.items()}

    def load(self, state: Mapping[str, Tensor], names: tuple[str, ...]) -> None:
        """Continue from `save`; ValueError names the entries that are missing or unknown."""
        expected = {"charge", "quadratic", *names}
        if set(state) != expected:
            raise ValueError(f"{self._owner} law cannot load the entries {sorted(state)}; it needs {sorted(expected)}")
        self._memory = {name: tensor.detach().clone() for name, tensor in state.items()}
        self._last = self._degree = None
        self.any_quadratic = bool(state["quadratic"].any())


def everywhere(value: float | bool, like: Tensor) -> Tensor:
    """One number, or one flag, for all charges, which takes the memory of one."""
    dtype = torch.bool if isinstance(value, bool) else like.dtype
    return torch.full((), value, dtype=dtype, device=like.device).expand_as(like)


def require_tensor(name: str, value: object) -> None:
    """TypeError, with what it is, for what is no tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} is a {type(value).__name__}; give a tensor with one entry a charge")


def require_start(charge0: object, companion0: Tensor | None = None) -> None:
    """Refuse charges that are no tensor, and companions that are not as many."""
    require_tensor("charge0", charge0)
    if companion0 is not None:
        require_tensor("companion0", companion0)
        if isinstance(charge0, Tensor) and companion0.shape != charge0.shape:
            shapes = f"{list(companion0.shape)} for charges of shape {list(charge0.shape)}"
            raise ValueError(f"companion0 has shape {shapes}; give one entry a charge")


def _measured(name: str, drives: Drives) -> Tensor | None:
    if not isinstance(drives, Drives):
        raise TypeError(f"drives is a {type(drives).__name__}; give Drives(update_energy=…)")
    found: Tensor | None = getattr(drives, name)
    return found


def _copied(tensor: Tensor) -> Tensor:
    alike = tensor.dim() == 1 and len(tensor) > 1 and tensor.stride() == (0,)
    return tensor[0].clone().expand_as(tensor) if alike else tensor.clone()
