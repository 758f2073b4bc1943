"""What the optimisers of an iteration did with every parameter, from which the settings of the charges follow."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from neuralmechanics.monitor.following.members import ChargeSettings, Members, Role
from neuralmechanics.optimizers import Setting, StepWatch

_IDLE = Role(None)
_REMEMBERED = 64  # roles that are kept: a training repeats a few


class Roles:
    """The role of every parameter in the iteration under way; a parameter that no optimiser moved stands still."""

    def __init__(self, watches: Sequence[StepWatch], members: Members, names: Collection[str]) -> None:
        self._watches = watches
        self._members = members
        self._names = list(names)
        self._kept: dict[tuple[int, bool, bool], Role] = {}
        self._roles: dict[str, Role] = {}
        self.twice: set[str] = set()
        """parameters that more than one optimiser moved, or one more than once"""

    def clear(self) -> None:
        """Between two iterations."""
        self._roles, self.twice = {}, set()

    def take(self, watch: StepWatch) -> None:
        """An optimiser has stepped."""
        for name in watch.holding:
            role, before = self._role(*watch.role(name), watch.stale(name)), self._roles.get(name, _IDLE)
            if role.setting is not None and (before.setting is not None or name in watch.shared):
                self.twice.add(name)
            if before.setting is None or role.setting is not None:
                self._roles[name] = role

    def doubt(self) -> None:
        """Ask anew what is known of the optimisers."""
        for watch in self._watches:
            watch.doubt()

    def unread(self, params: Mapping[str, Tensor]) -> set[str]:
        """Parameters whose gradient is not the one that ⟨g,ξ⟩ reads: moved more than once, or held by no optimiser."""
        held = {name for watch in self._watches for name in watch.holding}
        left = {name for name, p in params.items() if name not in held and p.grad is not None}
        return self.twice.union(left, *(watch.shared for watch in self._watches))

    @property
    def taken(self) -> Mapping[str, Role]:
        """Those of the optimisers that have stepped."""
        return self._roles

    @property
    def complete(self) -> bool:
        """Whether no parameter of them was left alone."""
        return all(role.setting is not None for role in self._roles.values())

    def settings(self, reference: float) -> ChargeSettings:
        """The settings of this iteration; parameters of optimisers that have not stepped stand still."""
        return self._members.settings({name: self._roles.get(name, _IDLE) for name in self._names}, reference)

    def ahead(self, reference: float) -> ChargeSettings:
        """The same with the optimisers that have not stepped as their groups hold them now."""
        if self._roles and len(self._watches) == 1:
            return self.settings(reference)
        roles = dict(self._roles)
        for watch in self._watches:
            held = watch.settings().items()
            coming = {name: self._role(s, watch.coming(name, s), watch.stale(name)) for name, s in held}
            roles = coming | roles
        return self._members.settings({name: roles.get(name, _IDLE) for name in self._names}, reference)

    def _role(self, setting: Setting | None, first: bool, stale: bool) -> Role:
        """The role with these contents; the same object as before, as long as the setting is."""
        key = (id(setting), first, stale)
        known = self._kept.get(key)
        if known is None:
            if len(self._kept) >= _REMEMBERED:
                self._kept.clear()
            known = self._kept[key] = Role(setting, first, stale)
        return known
