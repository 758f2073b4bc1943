"""Operations of one's own: what the search for symmetries is told about them, in either of two ways.

A *decomposition* says which function in torch the operation computes: nothing else is needed, and every capture holds
it against the operation, values and gradients. A *rule* writes the operation in terms of primitives, for what has no
equal in torch; ``check_rule`` holds it against the operation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neuralmechanics.symmetry.lowering.rules.registry import DECOMPOSITIONS, RULES, Rule

__all__ = ["decomposition", "operation_named", "rule"]

_OWN: set[str] = set()


def rule(*operations: Any) -> Callable[[Rule], Rule]:
    """Registers a rule for operations of one's own: how each is written in primitives, by the methods of ``Builder``.

    ``operations``: names as ``torch.library`` knows them, ``"mylib::op"``, or the operations themselves. The decorated
    function is called as ``function(d, node, *args, **kwargs)``: ``d`` the ``Builder``, ``node`` the operation in the
    captured graph (``node.meta["val"].shape`` is the shape of its result), tensors as ``Value``, everything else as the
    model gave it. It returns a value of the result's shape, a tuple where there are several. The primitives:

    ======================================== ====================================================================
    ``d.add(x, y, scale)``, ``d.add_number`` x + scale·y; x + number
    ``d.mul(x, y)``, ``d.scaled``            x·y entry by entry; number·x
    ``d.power``, ``d.exponential``, …        x^number; exp x; ``d.logarithm``: log x
    ``d.homogeneous(x)``                     f entry by entry with f(ax) = a·f(x) for a > 0 (ReLU)
    ``d.nonlinear(x, …)``                    any other function of single entries: its operands may not change
    ``d.larger(x, y)``                       the larger entry of two
    ``d.contract(x, y, Contraction(…))``     a sum of products, as ``einsum`` writes it
    ``d.reduce(x, dims, keepdim, mean)``     sums or means; ``d.extremum``: largest or smallest entries
    ``d.normalise(x, dims, center, eps)``    x over its size, centred or not; ``eps``: a ``Breaking`` or None
    ``d.softmax(x, dim, log)``               softmax, or its logarithm
    ``d.view``, ``d.cat``                    rearrangements (``Reshape``, ``Permute``, ``Expand``); concatenation
    ``d.fix(x)``                             a statement: x may not change at all
    ======================================== ====================================================================

    For arguments that the rule does not know raise ``UnsupportedFormError``; where symmetries may well exist that it
    does not follow, ``NotSoughtError``. Whatever it raises, all that enters is taken as fixed: sound, and said so in
    ``symmetries.unknown``. Give ``homogeneous`` and ``nonlinear`` the ``Function`` that they are, so that
    ``check_rule`` can execute what the rule writes. Registering a name again replaces one's own rule; torch's
    operations keep theirs.

    >>> import torch
    >>> from neuralmechanics.symmetry import Function, find_symmetries
    >>> library = torch.library.Library("doctest_rule", "DEF")
    >>> _ = library.define("rectify(Tensor x) -> Tensor")
    >>> library.impl("rectify", lambda x: x.clamp(min=0), "CompositeExplicitAutograd")
    >>> network = lambda p, x: torch.ops.doctest_rule.rectify(x @ p["a"]) @ p["b"]
    >>> weights = {"a": torch.ones(3, 4), "b": torch.ones(4, 2)}
    >>> find_symmetries(network, torch.zeros(5, 3), params=weights).count()["rescale"]
    0
    >>> @rule("doctest_rule::rectify")
    ... def rectify(d, node, x):
    ...     return d.homogeneous(x, nonnegative=True, function=Function("rectify", lambda x: x.clamp(min=0)))
    >>> find_symmetries(network, torch.zeros(5, 3), params=weights).count()["rescale"]
    4
    """
    names = [operation_named(operation) for operation in operations]

    def register(function: Rule) -> Rule:
        for name in names:
            _claim(name)
            # One of the two: a decomposition is written out before any rule is asked, and would hide this one.
            DECOMPOSITIONS.pop(name, None)
            RULES[name] = function
        return function

    return register


def decomposition(*operations: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the function in torch that operations of one's own compute: symmetries are found as if it were called.

    The decorated function takes the operation's arguments and returns what the operation returns, in operations that
    have rules (``symmetries.unknown`` names those that have none). No primitive needs to be known, and nothing is
    claimed where it is wrong: every capture runs it beside the model, and a model whose operation computes anything
    else, or differentiates to anything else, is refused.

    >>> import torch
    >>> from neuralmechanics.symmetry import find_symmetries
    >>> library = torch.library.Library("doctest_decomposition", "DEF")
    >>> _ = library.define("gate(Tensor x, Tensor y) -> Tensor")
    >>> library.impl("gate", lambda x, y: torch.sigmoid(x) * y, "CompositeExplicitAutograd")
    >>> @decomposition("doctest_decomposition::gate")
    ... def gate(x, y):
    ...     return torch.sigmoid(x) * y
    >>> network = lambda p, x: torch.ops.doctest_decomposition.gate(x @ p["a"], x @ p["b"]) @ p["c"]
    >>> weights = {"a": torch.ones(3, 4), "b": torch.ones(3, 4), "c": torch.ones(4, 2)}
    >>> find_symmetries(network, torch.zeros(5, 3), params=weights).count()["rescale"]
    4
    """
    names = [operation_named(operation) for operation in operations]

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            _claim(name)
            RULES.pop(name, None)
            DECOMPOSITIONS[name] = function
        return function

    return register


def operation_named(operation: Any) -> str:
    """The name under which graphs know an operation, ``mylib.op``, from whatever a user may hold of it."""
    packet = getattr(operation, "overloadpacket", operation)
    text = str(getattr(operation, "_qualname", packet)).replace("::", ".")
    parts = text.split(".")
    if not isinstance(operation, str) and len(parts) != 2:
        raise ValueError(f"{operation!r} is no operation of torch; give its name, 'mylib::op', or torch.ops.mylib.op")
    if len(parts) < 2 or len(parts) > 3 or not all(part.isidentifier() for part in parts):
        raise ValueError(
            f"operation {operation!r} has no library in front of it; write 'mylib::op', as torch.library does"
        )
    return ".".join(parts[:2])


def _claim(name: str) -> None:
    """ValueError for an operation that this package has a rule for."""
    if name in RULES and name not in _OWN:
        raise ValueError(f"operation {name} has a rule of neuralmechanics already: {RULES[name].__name__}; it stays")
    _OWN.add(name)
