"""Derivatives above the first: the one place through which the package takes them.

Everything is reverse mode over reverse mode. Forward mode nested in forward mode is silently wrong through layer, batch
and instance norm in torch 2.13. Several fused operations have wrong derivatives of higher order in reverse mode too,
and some have none: inside ``exact_forms`` each of them runs in a form whose derivatives of every order are right, and
what escapes that (scripted modules, functions with a backward pass of their own) is refused by name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import CheckpointError

from neuralmechanics.functional.derivatives.autograd_graph import once_differentiable_only, wrong
from neuralmechanics.functional.primitive_norms import PrimitiveNorms

__all__ = [
    "NoDerivativeError",
    "derivatives",
    "directional_derivative",
    "exact_forms",
    "record_gradient",
    "require_order",
]


class NoDerivativeError(RuntimeError):
    """A derivative of the order asked for does not exist here, or torch gets it wrong."""


@contextmanager
def exact_forms() -> Iterator[None]:
    """Operations run in forms whose nested derivatives are right: norms written out, plain attention, nothing compiled.

    To be entered around the evaluation and around every backward pass, which may evaluate again (checkpoints).
    Recurrent layers run without cuDNN.
    """
    with ExitStack() as forms:
        # Fused attention has no second derivative; the plain form is made of operations that all have theirs.
        forms.enter_context(sdpa_kernel(SDPBackend.MATH))
        if torch.backends.cudnn.is_available():  # type: ignore[no-untyped-call]
            forms.enter_context(torch.backends.cudnn.flags(enabled=False, allow_tf32=False))
        if "torch._dynamo" in sys.modules:  # else nothing is compiled, and to import it takes seconds
            forms.enter_context(torch.compiler.set_stance("force_eager"))
        forms.enter_context(PrimitiveNorms())
        yield


def derivatives(
    value: Tensor, variables: Sequence[Tensor], weights: Tensor | None = None, *, graph: bool
) -> tuple[Tensor, ...]:
    """(∂value/∂variables)ᵀ·weights, zero where ``value`` does not depend on one; ``graph`` keeps what the next needs.

    Raises NoDerivativeError where an operation has no derivative of that order.

    >>> x = torch.tensor(2.0, requires_grad=True)
    >>> (slope,) = derivatives(x**3, [x], graph=True)
    >>> derivatives(slope, [x], graph=False)
    (tensor(12.),)
    """
    if not value.requires_grad:
        return tuple(torch.zeros_like(variable) for variable in variables)
    with exact_forms():
        try:
            # Kept, because a graph is differentiated many times: along each direction, and by other variables.
            found = torch.autograd.grad(
                value, list(variables), weights, create_graph=graph, retain_graph=True, materialize_grads=True
            )
        except RuntimeError as error:
            if isinstance(error, CheckpointError):
                raise NoDerivativeError(
                    "a checkpointed region holds an operation whose higher derivatives torch gets wrong, and what is "
                    "computed again is that operation: turn checkpointing off, which changes no number"
                ) from error
            if not _speaks_of_order(error):
                raise
            first = str(error).splitlines()[0].rstrip(".")
            raise NoDerivativeError(f"torch has no derivative of that order here: {first}") from error
    return found if graph else tuple(part.detach() for part in found)


def directional_derivative(
    function: Callable[..., tuple[Tensor, ...]], point: Sequence[Tensor], along: Sequence[Tensor], *, graph: bool
) -> tuple[Tensor, ...]:
    """(∂f/∂x) v for each result of f(x): the derivative by u of ⟨(∂f/∂x)ᵀ u, v⟩, which is linear in u.

    ``graph`` keeps what a derivative by anything that f reads needs.

    >>> x, v = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 1.0])
    >>> directional_derivative(lambda x: (x**2, x.sum()), [x], [v], graph=False)
    (tensor([1., 4.]), tensor(1.5000))
    """
    with torch.enable_grad():
        leaves = [x if graph and x.requires_grad else x.detach().requires_grad_() for x in point]
        with exact_forms():
            results = function(*leaves)
        # (∂f/∂x)ᵀu is linear in u, so its derivative by u is the same at every u: zero will do.
        dual = [torch.zeros_like(y, requires_grad=True) for y in results]
        paired = sum((u * y).sum() for u, y in zip(dual, results, strict=True))
        if not isinstance(paired, Tensor):
            return ()
        slopes = derivatives(paired, leaves, graph=True)
        turned = sum((g * v).sum() for g, v in zip(slopes, along, strict=True))
        return derivatives(turned, dual, graph=graph) if isinstance(turned, Tensor) else ()


def record_gradient(
    function: Callable[[], Tensor], variables: Sequence[Tensor], order: int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """f and ∇f with the graph that derivatives up to ``order`` need, evaluated in exact forms.

    Raises NoDerivativeError where an operation is known to have none of that order, or a wrong one.
    """
    with torch.enable_grad(), exact_forms():
        value = function()
    require_order(value, order)
    with torch.enable_grad():
        return value, derivatives(value, variables, graph=True)


def require_order(value: Tensor, order: int) -> None:
    """Refuses a value whose derivatives up to ``order`` are known not to exist or to be wrong."""
    if order < 2:
        return
    once = once_differentiable_only(value)
    if once:
        raise NoDerivativeError(f"{', '.join(once)} is marked once differentiable")
    faults = wrong(value, order)
    if faults:
        raise NoDerivativeError(
            f"the derivative of order {order} through {', '.join(faults)} is wrong in torch, and the call is out of "
            "reach here (scripted or made by its ATen name): call it through torch.nn.functional"
        )


def _speaks_of_order(error: RuntimeError) -> bool:
    text = str(error)
    return isinstance(error, NotImplementedError) or any(
        words in text
        for words in (
            "is not implemented",  # "derivative for aten::… is not implemented"
            "differentiate twice",  # a once differentiable function
            "does not currently support double backward",  # compiled
            "output_padding is not supported",  # the third derivative of a transposed convolution
        )
    )
