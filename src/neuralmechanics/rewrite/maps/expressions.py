"""Regular expressions over the names of a model's layers, each of which matches exactly the layers that are meant."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

__all__ = ["Template", "expression", "expressions", "matched", "template"]

Template = tuple[str | None, ...]  # the parts of a name between its dots; None for a number

PREFIX = "re:"


def template(name: str) -> Template:
    """The parts of a name, with its numbers left open.

    >>> template("layers.3.mlp")
    ('layers', None, 'mlp')
    """
    return tuple(None if part.isdecimal() else part for part in name.split("."))


def matched(target: str, names: Iterable[str]) -> list[str]:
    """The names that a target stands for: itself, or what the expression behind ``re:`` matches from its beginning on.

    >>> matched("re:.*up$", ["a.up", "a.upper", "b.up"]), matched("a", ["a", "ab"])
    (['a.up', 'b.up'], ['a'])
    """
    if not target.startswith(PREFIX):
        return [name for name in names if name == target]
    compiled = re.compile(target.removeprefix(PREFIX))
    return [name for name in names if compiled.match(name)]


def expressions(
    meant: Collection[str], names: Sequence[str], class_names: Collection[str] = frozenset()
) -> tuple[str, ...]:
    """Targets that together match exactly the names meant: one for each template, or the names one by one.

    >>> expressions(["l.0.up", "l.1.up", "l.0.gate"], ["l.0.up", "l.1.up", "l.0.gate", "l.1.gate"])
    ('re:l\\\\.\\\\d+\\\\.up$', 'l.0.gate')
    """
    groups: dict[Template, list[str]] = defaultdict(list)
    for name in meant:
        groups[template(name)].append(name)
    targets: list[str] = []
    for group in groups.values():
        whole = expression(group, names, class_names)
        targets.extend([whole] if whole is not None else [_one(name, class_names) for name in group])
    return tuple(targets)


def expression(meant: Collection[str], names: Sequence[str], class_names: Collection[str] = frozenset()) -> str | None:
    """One target that matches exactly the names meant among all ``names``; None where there is no plain one.

    ``class_names``: a name that is also one of these would be taken for all modules of that class.
    """
    meant = list(dict.fromkeys(meant))
    if len(meant) == 1:
        return _one(meant[0], class_names)
    (form, *others) = {template(name) for name in meant}
    if others:
        return None
    alike = [name for name in names if template(name) == form]
    parts = [_part(k, part, meant, alike) for k, part in enumerate(form)]
    target = PREFIX + r"\.".join(parts) + "$"
    return target if sorted(matched(target, names)) == sorted(meant) else None


def _part(place: int, part: str | None, meant: Sequence[str], alike: Sequence[str]) -> str:
    """A word as it is; any number where all that there are are meant, else the numbers that are."""
    if part is not None:
        return re.escape(part)
    wanted, present = ({name.split(".")[place] for name in group} for group in (meant, alike))
    if wanted == present:
        return r"\d+"
    return f"(?:{'|'.join(sorted(wanted, key=int))})"


def _one(name: str, class_names: Collection[str]) -> str:
    return f"{PREFIX}{re.escape(name)}$" if name in class_names else name
