"""All laws of a run in progress, and where each of them still holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.laws import (
    Drives,
    ExactLaw,
    FirstOrderLaw,
    GradientFlowLaw,
    Hyperparameters,
    IdentityLaw,
    Law,
    ModifiedFlowLaw,
    ModifiedLossLaw,
)

Maker = Callable[[Tensor], Law]
LAWS: dict[str, Maker] = {
    "exact": ExactLaw,
    "identity": lambda quadratic: ExactLaw(quadratic, measured_residual=True),
    "modified_flow": ModifiedFlowLaw,
    "modified_loss": ModifiedLossLaw,
    "first_order": FirstOrderLaw,
    "gradient_flow": GradientFlowLaw,
}
DRIVEN_BY_GRADIENT = ("modified_loss", "first_order")
_STRONG_DRIVES = {"gradient_energy", "velocity_gradient", "velocity_energy"}
RATED_DRIVES = {"rated_pull", "rated_velocity", "rated_companion"}
_FALLBACK = "fallback"
ROTATION = "rotation"
_KIND = "quadratic"


def chosen_laws(laws: Sequence[str | Maker] | None, *, sgd: bool, plain: bool) -> dict[str, Maker]:
    """The laws to follow. None takes all that apply: `first_order` needs β = 0, an unknown optimiser the identity.

    Raises ValueError for an unknown name, a law that the optimiser does not obey, or one of one's own that is no law.
    """
    if isinstance(laws, str):
        raise ValueError(f"laws={laws!r} is one name; give a list of them, laws=[{laws!r}]")
    own = {_own_name(law): law for law in laws or () if not isinstance(law, str)}
    for name in own.keys() | {law for law in laws or () if isinstance(law, str)}:
        if name in own:
            if not sgd:
                raise ValueError(f"the law {name!r} is fed the settings of SGD, and this optimiser has others")
            continue
        if name == ROTATION:
            continue  # followed apart, for it is about rotations and not about charges
        if name not in LAWS:
            raise ValueError(f"no law named {name!r}; laws: {', '.join(LAWS)}, {ROTATION}")
        if not sgd and name != "identity":
            raise ValueError(
                f"the law {name!r} holds for torch.optim.SGD alone; leave laws out to follow the identity, "
                "which every optimiser obeys"
            )
    if laws is not None:
        named = [law if isinstance(law, str) else _own_name(law) for law in laws]
        return {name: own.get(name) or LAWS[name] for name in named if name != ROTATION}
    names = [name for name in LAWS if plain or name != "first_order"] if sgd else ["identity"]
    return {name: LAWS[name] for name in names}


def _own_name(law: Maker | object) -> str:
    """The name of a law of one's own; ValueError in one line where it is none."""
    name = getattr(law, "name", None)
    if not callable(law) and callable(getattr(law, "step", None)):
        raise ValueError(
            f"a {type(law).__name__} is given, which is made already; give the class: laws=[{type(law).__name__}]"
        )
    if not callable(law) or not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"{law!r} is no law: give a name, or a class of yours like laws.ChargeLaw with a `name`")
    if name in LAWS or name in (ROTATION, _FALLBACK):
        raise ValueError(f"a law of your own is named {name!r}, which is taken; name it otherwise")
    known = {field.name for field in fields(Drives)}
    needs = getattr(law, "needs", ())
    if isinstance(needs, str):
        raise ValueError(f"law {name!r}: needs={needs!r} is one name; give a tuple of them, needs = ({needs!r},)")
    unknown = set(needs) - known
    if unknown:
        raise ValueError(
            f"law {name!r} needs {min(unknown)!r}, which is not measured; drives: {', '.join(sorted(known))}"
        )
    return name


def _made(name: str, law: Maker, quadratic: Bool[Tensor, " charges"]) -> Law:
    """A law for these charges; ValueError in one line where a class of one's own does not take them."""
    try:
        return law(quadratic)
    except TypeError as error:
        raise ValueError(
            f"the law {name!r} cannot be made of the mask `quadratic` [charges] ({error}); derive it from "
            "laws.ChargeLaw, or let __init__ take the mask"
        ) from error


def _require_charges(law: Law, charge: Tensor, does: str) -> None:
    """ValueError where a law's values are not one float64 number a charge: a record of them could not be read."""
    value = law.value
    if value.shape != charge.shape or value.dtype != torch.float64:
        raise ValueError(
            f"law {law.name!r} {does} values of shape {list(value.shape)} and {value.dtype}; one float64 number for "
            f"each of the {len(charge)} charges is needed"
        )


class LawTracker:
    """The laws, advanced together. Where the closed laws do not hold they are nan and the identity goes on.

    The identity is exact for every optimiser as X ← X + 2⟨θ,d⟩ + W. For SGD with `residuals` it is the exact law
    with its measured residual; without them it is nan until a charge leaves the closed laws. Where updates are
    differences of stored parameters (`copied`) the general identity is free of their rounding and stands alone.
    """

    def __init__(
        self,
        laws: Mapping[str, Maker],
        quadratic: Bool[Tensor, " charges"],
        *,
        sgd: bool,
        residuals: bool,
        copied: bool = False,
    ) -> None:
        self.names = names = tuple(laws)
        self._general = copied
        self._measured = sgd and residuals and "identity" in names and not copied
        followed = [n for n in names if n != "identity" or self._measured] if sgd else []
        self._always = copied or not sgd
        self._laws: dict[str, Law] = {name: _made(name, laws[name], quadratic) for name in followed}
        self._needs = {drive for name in followed for drive in getattr(laws[name], "needs", ())}
        self._fallback = IdentityLaw(quadratic)
        self._fallen = False
        # One flag stands for all charges until some are left.
        self.broken = torch.full((), not sgd, dtype=torch.bool, device=quadratic.device).expand_as(quadratic)
        self.any_broken = not sgd
        self._strong = False

    def start(self, charge: Float64[Tensor, " charges"], companion: Float64[Tensor, " charges"] | None) -> None:
        """Begin at a charge, with ⟨θ,v⟩ of momentum buffers already in use."""
        for law in self._laws.values():
            law.start(charge, companion)
            _require_charges(law, charge, "begins with")
        # Where closed laws hold everywhere it has nothing to follow, and takes no memory.
        if self.any_broken or self._always:
            self._fallback.start(charge)
            self._fallen = True

    def wanted(self, *, buffered: bool, nesterov: bool, strong: bool, mixed: bool, rated: bool) -> set[str]:
        """The drives that the coming `step` needs. ⟨d,v⟩ matters to Nesterov and to a buffer that lies idle.

        2⟨θ,d⟩ + W is what the optimiser did to a charge: what the watch for other causes compares with.
        Once decay has been strong, |v|² is measured at every step: it is what the next strong step goes on from.
        """
        drives = {"update_energy", "parameter_update"} | self._needs
        if buffered or nesterov:
            drives.add("update_velocity")
        if self._measured:
            drives.add("residual")
        if any(name in self._laws for name in DRIVEN_BY_GRADIENT):
            drives.add("gradient_energy")
        if mixed:
            drives.add("decay")
        if rated and self._laws.keys() & {"exact", "identity"}:
            drives |= RATED_DRIVES
        self._strong = self._strong or strong
        if self._strong:
            drives |= _STRONG_DRIVES if strong else {"velocity_energy"}
        return drives

    def leave(self, charges: Bool[Tensor, " charges"], measured: Float64[Tensor, " charges"]) -> None:
        """From this step on the closed laws do not hold at `charges`; their identity goes on from here.

        `measured` is the charge before the step, taken where no identity was followed until now.
        """
        known = self._laws["identity"].value if self._measured else measured
        if not self._always:
            entering = charges & ~self.broken
            begin = torch.where(entering, known, self._fallback.value) if self.any_broken else known
            self._fallback.start(begin)
            self._fallen = True
        self.broken = self.broken | charges
        self.any_broken = True

    def restart(
        self,
        charges: Bool[Tensor, " charges"],
        measured: Float64[Tensor, " charges"],
        companion: Float64[Tensor, " charges"] | None,
    ) -> None:
        """Begin every law anew at `charges`, from what was measured of them; the others go on untouched."""
        for law in (*self._laws.values(), *([self._fallback] if self._fallen else [])):
            before = law.state_dict()
            law.start(measured, companion)
            anew = law.state_dict()
            law.load_state_dict({key: torch.where(charges, anew[key], old) for key, old in before.items()})

    @property
    def exact(self) -> Float64[Tensor, " charges"] | None:
        """What the exact law predicts now; None where it is not followed."""
        law = self._laws.get("exact")
        return None if law is None else law.value

    @property
    def identity(self) -> Float64[Tensor, " charges"] | None:
        """What the exact law predicts with its measured residual; None where that is not followed."""
        law = self._laws.get("identity")
        return None if law is None else law.value

    @property
    def followed(self) -> Bool[Tensor, " charges"]:
        """Where closed laws are followed."""
        return ~self.broken

    def step(self, hyper: Hyperparameters, drives: Drives) -> None:
        """Advance every law by one optimiser step."""
        for law in self._laws.values():
            law.step(hyper, drives)
            if law.name not in LAWS:
                _require_charges(law, self.broken, "has, after a step,")
        if self.any_broken or self._always:
            self._fallback.step(Hyperparameters(0.0), drives)

    def predictions(self) -> dict[str, Float64[Tensor, " charges"]]:
        """What each law predicts now; nan where it does not hold."""
        out: dict[str, Tensor] = {}
        unknown = torch.full((), torch.nan, dtype=torch.float64, device=self.broken.device).expand(self.broken.shape)
        for name in self.names:
            law = self._laws.get(name)
            value = unknown if law is None else law.value
            if name == "identity" and self._general:
                value = self._fallback.value
            elif self.any_broken:
                other = self._fallback.value if name == "identity" else unknown
                value = torch.where(self.broken, other, value)
            out[name] = value
        return out

    def state_dict(self) -> dict[str, Tensor]:
        """Everything the laws remember, as flat names `law/entry`."""
        laws: dict[str, Law] = dict(self._laws)
        if self.any_broken or self._always:
            laws[_FALLBACK] = self._fallback
        state = {
            f"{name}/{key}": value
            for name, law in laws.items()
            for key, value in law.state_dict().items()
            if key != _KIND
        }
        return state | {"broken": self.broken.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> tuple[str, ...]:
        """Continue exactly; returns the laws that the state does not hold, which begin where `start` put them."""
        missing = []
        if not self._fallen and bool(state["broken"].any()):
            zeros = torch.zeros(self.broken.shape, dtype=torch.float64, device=self.broken.device)
            self._fallback.start(next((law.value for law in self._laws.values()), zeros))
            self._fallen = True
        laws: dict[str, Law] = dict(self._laws)
        if self._fallen:
            laws[_FALLBACK] = self._fallback
        for name, law in laws.items():
            entries = {key.partition("/")[2]: value for key, value in state.items() if key.startswith(f"{name}/")}
            if entries:
                # Which charges are quadratic is known from the symmetries.
                law.load_state_dict({_KIND: law.state_dict()[_KIND]} | entries)
            else:
                missing.append(name)
        self.broken = self.broken | state["broken"].to(self.broken.device)
        self.any_broken = bool(self.broken.any())
        return tuple(missing)
