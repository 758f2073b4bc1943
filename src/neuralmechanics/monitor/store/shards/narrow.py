"""Many records of a run of floats in fewer bytes: what a later record knows of an earlier one is not written twice.

In a shard of several records, where every parameter is a float of 32 bits or fewer, the last record is stored as it is
and the charges before as their differences from it, as floats: to 6e-8 of how far a charge moved until then. Residuals
before it keep 8 binary digits, which is more than rounding leaves of most.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neuralmechanics.monitor.store.shards.shard import Arrays

LAST_PREFIX = "last/"
"""of what is kept of the last record alone"""
_CHARGE, _RESIDUAL = f"{LAST_PREFIX}charge", f"{LAST_PREFIX}residual"
_LARGEST = 1e37
_HALF = np.dtype(np.uint16)


def narrowed(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The arrays of a shard, those of several records of floats in fewer bytes.

    >>> rows = {"charge": np.linspace(1, 2, 10).reshape(5, 2), "residual": np.ones((5, 2), np.float32)}
    >>> {name: array.dtype.name for name, array in narrowed(rows).items()}
    {'charge': 'float32', 'residual': 'uint16', 'last/residual': 'float32', 'last/charge': 'float64'}
    """
    out, charge = dict(arrays), arrays["charge"]
    # Residuals are floats where every parameter is: see `compacted`.
    if len(charge) < 2 or out.get("residual", charge).dtype != np.float32 or charge.dtype != np.float64:
        return out
    out["residual"], out[_RESIDUAL] = _shortened(out["residual"]), out["residual"][-1:].copy()
    if np.isfinite(charge).all() and np.abs(charge).max(initial=0.0) < _LARGEST:
        out["charge"] = (charge - charge[-1:]).astype(np.float32)
        out[_CHARGE] = charge[-1:].copy()
    return out


def broadened(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The same arrays as they were measured, in their own types."""
    out = dict(arrays)
    if (residual := out.pop(_RESIDUAL, None)) is not None:
        before = (out["residual"][:-1].astype(np.uint32) << np.uint32(16)).view(np.float32)
        out["residual"] = np.concatenate([before, residual])
    if (charge := out.pop(_CHARGE, None)) is not None:
        out["charge"] = charge + out["charge"].astype(np.float64)
    return out


def _shortened(values: np.ndarray) -> np.ndarray:
    """Floats rounded to their upper 16 bits (bfloat16); what is not a number stays so."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    nearest = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    upper = (np.where(np.isfinite(values), nearest, bits) >> np.uint32(16)).astype(_HALF)
    return np.where(np.isnan(values), np.uint16(0x7FC0), upper)
