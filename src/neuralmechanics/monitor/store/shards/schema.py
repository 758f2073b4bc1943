"""What a shard must hold to be read as records: a right checksum says that it was written, not that a run wrote it."""

from __future__ import annotations

import numpy as np

from neuralmechanics.monitor.store.shards.shard import Arrays, CorruptShardError

STATE_PREFIX = "state/"
LAST_PREFIX, FIRST_PREFIX = "last/", "first/"
"""of what a shard of several records keeps of the last alone, and of the first"""
ERROR_PREFIX = "error/"
"""of predictions that are kept as their distances from the charges"""
LAST_RESIDUAL = "last/residual"
"""of a state that is resumed from: the residual as it was recorded there, which cannot be measured again"""
DRIVE_PREFIX = "drives/"
ROTATION_PREFIX = "rotation/"
BUDGET_PREFIX = "budget/"
OBSERVED_PREFIX = "observed/"
SINCE = "observed/since"
"""the step of the record before, which a record's budget begins at"""
_DRIVE_STEP = f"{DRIVE_PREFIX}step"
_NUMBERS = "fiub"


def require_records(arrays: Arrays, count: int, name: str) -> None:
    """`CorruptShardError` unless the arrays are `count` rows of records and the drives of the steps in between."""
    for needed in ("step", "time", "charge"):
        if needed not in arrays:
            raise CorruptShardError(f"shard {name}: array {needed!r} is missing")
    if len(arrays["step"].shape) != 1 or len(arrays["step"]) != count:
        raise CorruptShardError(f"shard {name}: it holds steps of shape {arrays['step'].shape}, not {count} records")
    if arrays["charge"].ndim != 2:
        raise CorruptShardError(f"shard {name}: array 'charge' has the shape {arrays['charge'].shape}")
    steps = arrays.get(_DRIVE_STEP)
    rows = {False: count, True: len(steps) if steps is not None and steps.ndim == 1 else 0}
    widths = (1, arrays["charge"].shape[1])
    for key, array in arrays.items():
        if key.startswith(STATE_PREFIX):
            continue
        _require_numbers(key, array, name)
        own = key.startswith((ROTATION_PREFIX, OBSERVED_PREFIX))  # these are counted apart from charges
        if key.startswith((LAST_PREFIX, FIRST_PREFIX)):
            if array.shape != (1, arrays["charge"].shape[1]):
                raise CorruptShardError(f"shard {name}: array {key!r} has the shape {array.shape}")
            continue
        fits = array.ndim == 1 or (array.ndim == 2 and (own or array.shape[1] in widths))
        if not fits or len(array) != rows[key.startswith(DRIVE_PREFIX)]:
            raise CorruptShardError(
                f"shard {name}: array {key!r} has the shape {array.shape}, which is no row a record"
            )


def require_start(arrays: Arrays, name: str) -> None:
    """`CorruptShardError` unless the arrays are the charges that a segment starts from, and their sizes."""
    for needed in ("charge", "scale"):
        if needed not in arrays:
            continue
        _require_numbers(needed, arrays[needed], name)
        if arrays[needed].ndim != 1:
            raise CorruptShardError(f"shard {name}: array {needed!r} has the shape {arrays[needed].shape}")


def _require_numbers(key: str, array: np.ndarray, name: str) -> None:
    wanted = "iu" if key == "step" else _NUMBERS
    if array.dtype.kind not in wanted:
        raise CorruptShardError(f"shard {name}: array {key!r} is of type {array.dtype}, which it cannot be")
