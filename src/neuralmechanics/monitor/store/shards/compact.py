"""A record in fewer bytes: what is equal is stored once, and what floats cannot tell apart is stored as floats.

Stored exactly: charges; the laws' state where it is not that of a prediction. An array that holds one value throughout
is stored with one entry, and a law's charge that is its prediction as an array without entries. Where every parameter
is a float of 32 bits or fewer (`single`), residuals and companions, which were computed from such floats, are stored
as floats, and predictions as their differences from the charges as floats: to 6e-8 of what is to be read from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from neuralmechanics.monitor.store.shards.narrow import broadened, broadened_array, broadened_names
from neuralmechanics.monitor.store.shards.schema import BUDGET_PREFIX, DRIVE_PREFIX, ERROR_PREFIX, STATE_PREFIX
from neuralmechanics.monitor.store.shards.shard import Arrays

LAW_PREFIX = "predicted/"
_SINGLE = ("residual",)
_BROKEN = f"{BUDGET_PREFIX}broken_symmetry"
# Of what moves a charge, what breaks its symmetry by no more than this is rounding of the gradient.
_NOISE = {True: 1e-6, False: 1e-15}
_SINGLE_STATES = ("/companion", "/slope")
_FEW = 4096
# Differences beyond this are kept as they are.
_LARGEST = 1e37


def compacted(arrays: Mapping[str, np.ndarray], *, single: bool) -> Arrays:
    """What is written of a record."""
    laws = {name: array for name, array in arrays.items() if name.startswith(LAW_PREFIX)}
    errors = _differences(laws, arrays["charge"]) if single else {}
    out: Arrays = {}
    for name, array in arrays.items():
        if name == _BROKEN and _is_noise(array, arrays, single=single):
            continue
        if name.startswith(STATE_PREFIX):
            out[name] = _state(name, array, arrays, errors, single=single)
        elif name in errors:
            out[ERROR_PREFIX + name.removeprefix(LAW_PREFIX)] = errors[name]
        else:
            narrow = single and (name in _SINGLE or name.startswith(BUDGET_PREFIX))
            out[name] = array.astype(np.float32) if narrow else array
    return out


def expanded(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """What was written, as it was measured: float64 throughout, one entry a charge."""
    arrays = broadened(arrays)
    out = {name: expanded_array(arrays, name) for name in expanded_names(arrays)}
    for name, array in arrays.items():
        if name.startswith(STATE_PREFIX):
            out |= _restored(name, array, out, arrays["charge"].shape[-1])
    return out


def expanded_names(stored: Iterable[str]) -> list[str]:
    """The names of what was measured at a record, from those of what is stored; the laws' state is none of it."""
    names = [name for name in broadened_names(stored) if not name.startswith(STATE_PREFIX)]
    laws = [LAW_PREFIX + name.removeprefix(ERROR_PREFIX) for name in names if name.startswith(ERROR_PREFIX)]
    return list(dict.fromkeys([*(name for name in names if not name.startswith(ERROR_PREFIX)), *laws]))


def expanded_array(
    arrays: Mapping[str, np.ndarray], name: str, charge: Callable[[], np.ndarray] | None = None
) -> np.ndarray:
    """One array as it was measured, in float64; of the others only those are read that it follows from.

    `charge` gives the charges as they were measured, where they may be at hand.
    """
    if name.startswith(LAW_PREFIX) and (away := ERROR_PREFIX + name.removeprefix(LAW_PREFIX)) in arrays:
        error = broadened_array(arrays, away)
        predicted: np.ndarray = (broadened_array(arrays, "charge") if charge is None else charge()) + error
        # Rows of records that kept the prediction itself stand beside those that kept its difference.
        return np.where(np.isnan(error), arrays[name], predicted) if name in arrays else predicted
    array = broadened_array(arrays, name)
    return array.astype(np.float64) if array.dtype == np.float32 and not name.startswith(DRIVE_PREFIX) else array


def _is_noise(broken: np.ndarray, arrays: Mapping[str, np.ndarray], *, single: bool) -> bool:
    """Whether a broken symmetry is rounding everywhere, and so goes without saying: rounding is what is left."""
    others = [array for name, array in arrays.items() if name.startswith(BUDGET_PREFIX) and name != _BROKEN]
    # The first charges mostly tell that it is not.
    return all(
        bool((np.abs(broken[:, at]) <= _NOISE[single] * sum(np.abs(array[:, at]) for array in others)).all())
        for at in (slice(0, _FEW), slice(_FEW, None))
    )


def _state(
    name: str,
    array: np.ndarray,
    arrays: Mapping[str, np.ndarray],
    errors: Mapping[str, np.ndarray],
    *,
    single: bool,
) -> np.ndarray:
    law = _law_of(name)
    if name.endswith("/charge") and _is_predicted(array, arrays.get(law), arrays["charge"], errors.get(law)):
        return array[:0]
    if array.size > 1 and _constant(array):
        return array[:1]
    return array.astype(np.float32) if single and name.endswith(_SINGLE_STATES) else array


def _is_predicted(
    array: np.ndarray, predicted: np.ndarray | None, charge: np.ndarray, error: np.ndarray | None
) -> bool:
    """Whether a law's charge is what will be read as its prediction: for a law far from its charge, floats lose it.

    `error`: what is stored of the prediction, where that is its difference from the charge.
    """
    if predicted is None:
        return False
    if error is None:
        return np.array_equal(predicted[-1], array, equal_nan=True)
    size = float(np.abs(charge).max(initial=0.0))
    read = (charge + error)[-1]
    with np.errstate(invalid="ignore"):
        near = np.abs(read - array) <= 1e-13 * size + 1e-12 * np.abs(array)
    return bool(near.all()) or np.allclose(read, array, rtol=1e-12, atol=1e-13 * size, equal_nan=True)


def _restored(name: str, array: np.ndarray, out: Arrays, charges: int) -> Arrays:
    if array.size == 0 and charges:
        predicted = out.get(_law_of(name))
        return {} if predicted is None else {name: np.array(predicted[-1])}
    wide = array.astype(np.float64) if array.dtype == np.float32 else array
    return {name: np.broadcast_to(wide, (charges,)).copy() if wide.shape == (1,) else wide}


def _law_of(name: str) -> str:
    """The prediction of the law that an entry of the state is of."""
    return LAW_PREFIX + name.removeprefix(STATE_PREFIX).partition("/")[0]


def _constant(array: np.ndarray) -> bool:
    """Whether one value stands everywhere, nan included; told from the first two where they differ."""
    first = array[:1]
    if array.strides == (0,):
        return True
    if array.dtype.kind == "f" and np.isnan(first[0]):
        return bool(np.isnan(array).all())
    return bool(array[1] == first[0] and (array == first).all())


def _differences(predicted: Mapping[str, np.ndarray], charge: np.ndarray) -> Arrays:
    """Their differences from the charges as floats, of those predictions that follow from them."""
    if not predicted or not np.isfinite(charge).all():
        return {}
    out = {}
    for name, array in predicted.items():
        difference = array - charge
        # nan is passed over
        if max(np.fmax.reduce(difference, None, initial=0), -np.fmin.reduce(difference, None, initial=0)) < _LARGEST:
            out[name] = difference.astype(np.float32)
    return out
