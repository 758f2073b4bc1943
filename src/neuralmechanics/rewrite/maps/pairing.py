"""How llm-compressor puts matches of several targets together into sets: by a walk through the model's modules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from neuralmechanics.rewrite.maps.expressions import matched

__all__ = ["paired"]


def paired(targets: Sequence[str], names: Sequence[str]) -> Iterator[list[list[str]]]:
    """The sets that the walk makes of all matches: for each of them one list of names a target.

    Modules come in the model's order. A set takes in matches until every target has one, and then as long as the
    module that all of its members have in common stays the same; the first match that would need a wider one opens the
    next set. Raises ``ValueError`` where the walk does: a module with two targets, a last set that stays incomplete.
    Source: compressed-tensors, ``match_modules_set``.

    >>> list(paired(["re:.*up$", "re:.*down$"], ["0.up", "0.down", "1.up", "1.down"]))
    [[['0.up'], ['0.down']], [['1.up'], ['1.down']]]
    """
    of_name: dict[str, list[int]] = {}
    for number, target in enumerate(targets):
        for name in matched(target, names):
            of_name.setdefault(name, []).append(number)
    held: list[list[str]] = [[] for _ in targets]
    common: list[str] | None = None
    for name in names:
        if name not in of_name:
            continue
        if len(of_name[name]) > 1:
            raise ValueError(f"module {name!r} is matched by {len(of_name[name])} targets of one mapping")
        wider = _common(common, name)
        if all(held) and wider != common:
            yield held
            held, wider = [[] for _ in targets], name.split(".")
        held[of_name[name][0]].append(name)
        common = wider
    if all(held) and targets:
        yield held
    elif any(held):
        empty = [target for target, found in zip(targets, held, strict=True) if not found]
        raise ValueError(f"no complete set: nothing is left for {', '.join(map(repr, empty))}")


def _common(parts: list[str] | None, name: str) -> list[str]:
    """The parts with which both names begin."""
    own = name.split(".")
    if parts is None:
        return own
    same = 0
    while same < min(len(parts), len(own)) and parts[same] == own[same]:
        same += 1
    return own[:same]
