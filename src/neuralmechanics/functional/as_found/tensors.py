"""One tensor as it was: its bits, memory, gradient, flags and place in autograd's bookkeeping."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["KeptTensor", "is_transient"]


def is_transient(tensor: Tensor) -> bool:
    """Whether the tensor lives inside a capture or a transform and has no data of its own outside it."""
    from torch._subclasses.fake_tensor import FakeTensor
    from torch._subclasses.functional_tensor import FunctionalTensor

    return (
        isinstance(tensor, (FakeTensor, FunctionalTensor))
        or torch._is_functional_tensor(tensor)
        or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


class KeptTensor:
    """A tensor and what it takes to put it back; without ``bits`` its values are taken on trust."""

    def __init__(self, tensor: Tensor, bits: bool) -> None:
        self.tensor = tensor
        self._kind = type(tensor)
        self._leaf = tensor.is_leaf
        self._requires_grad = tensor.requires_grad
        self._grad = tensor.grad if self._leaf else None
        self._hooks = tensor._backward_hooks
        self._after = tensor._post_accumulate_grad_hooks if self._leaf else None
        # Tensors made under inference mode count no versions and raise when asked.
        self._version = None if tensor.is_inference() else tensor._version
        # ``.data`` shares the memory and counts its own versions: it stays when the tensor is given other memory.
        self._data = tensor.data
        region = _bytes(self._data) if bits else None
        self._bits = None if region is None else region.clone()

    def restore(self) -> None:
        """The tensor as it was; graphs that were built before and hold it can still be differentiated."""
        tensor = self.tensor
        if type(tensor) is not self._kind:
            tensor.__class__ = self._kind
        if not _same_memory(tensor, self._data):
            tensor.data = self._data
        self._restore_values()
        self._restore_autograd()

    def _restore_values(self) -> None:
        if self._bits is None:
            return
        region = _bytes(self._data)
        if region is not None and not torch.equal(region, self._bits):
            region.copy_(self._bits)

    def _restore_autograd(self) -> None:
        tensor = self.tensor
        if self._leaf and not tensor.is_leaf:
            tensor.detach_()
        if tensor.is_leaf and tensor.requires_grad != self._requires_grad:
            tensor.requires_grad_(self._requires_grad)
        if self._leaf and tensor.grad is not self._grad:
            tensor.grad = self._grad
        for name, before in (("_backward_hooks", self._hooks), ("_post_accumulate_grad_hooks", self._after)):
            now: Any = getattr(tensor, name) if self._leaf else before
            if now is not before:
                setattr(tensor, name, before)
        if self._version is not None and tensor._version != self._version:
            # The bits are those of before: a higher count would make graphs built earlier refuse to be differentiated.
            torch._C._autograd._unsafe_set_version_counter((tensor,), (self._version,))


def _same_memory(tensor: Tensor, data: Tensor) -> bool:
    if tensor.dtype != data.dtype or tensor.device != data.device or tensor.shape != data.shape:
        return False
    if tensor.layout != torch.strided or type(data) is not Tensor:
        return True
    if tensor.stride() != data.stride() or tensor.storage_offset() != data.storage_offset():
        return False
    same: bool = tensor.untyped_storage()._cdata == data.untyped_storage()._cdata
    return same


def _bytes(tensor: Tensor) -> Tensor | None:
    """The memory that the tensor spans, as bytes, so that NaN and overlapping elements are kept too; None: it has none.

    Wrappers around other tensors have no memory either; the walk follows what they wrap.
    """
    if type(tensor) is not Tensor or tensor.layout != torch.strided or is_transient(tensor) or tensor.numel() == 0:
        return None
    storage = tensor.untyped_storage()
    if storage.device.type == "meta":
        return None
    # The last element lies at Σ(size - 1)·stride: gaps between elements are inside, neighbours in the storage are not.
    span = 1 + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    out = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    return out.set_(storage, tensor.storage_offset() * tensor.element_size(), (span * tensor.element_size(),), (1,))
