"""What a shard must hold to be read as records: a right checksum says that it was written, not that a run wrote it."""

from __future__ import annotations

from collections.abc import Mapping

from neuralmechanics.monitor.store.shards.stored import CorruptShardError, Kind

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
LEFT = f"{BUDGET_PREFIX}rounding"
"""what the parts of a budget leave of a change, where the greatest part is not stored"""
OBSERVED_PREFIX = "observed/"
SINCE = "observed/since"
"""the step of the record before, which a record's budget begins at"""
_DRIVE_STEP = f"{DRIVE_PREFIX}step"
_NUMBERS = "fiub"


def require_records(arrays: Mapping[str, Kind], count: int, name: str) -> None:
    """`CorruptShardError` unless the arrays are `count` rows of records and the drives of the steps in between."""
    for needed in ("step", "time", "charge"):
        if needed not in arrays:
            raise CorruptShardError(f"shard {name}: array {needed!r} is missing")
    if arrays["step"].shape != (count,):
        raise CorruptShardError(f"shard {name}: it holds steps of shape {arrays['step'].shape}, not {count} records")
    if len(arrays["charge"].shape) != 2:
        raise CorruptShardError(f"shard {name}: array 'charge' has the shape {arrays['charge'].shape}")
    steps, width = arrays.get(_DRIVE_STEP), arrays["charge"].shape[1]
    rows = {False: count, True: steps.shape[0] if steps is not None and len(steps.shape) == 1 else 0}
    for key, array in arrays.items():
        if key.startswith(STATE_PREFIX):
            continue
        _require_numbers(key, array, name)
        if key.startswith((LAST_PREFIX, FIRST_PREFIX)):
            _require_row(key, arrays, name)
            continue
        own = key.startswith((ROTATION_PREFIX, OBSERVED_PREFIX))  # these are counted apart from charges
        fits = len(array.shape) == 1 or (len(array.shape) == 2 and (own or array.shape[1] in (1, width)))
        if not fits or array.shape[0] != rows[key.startswith(DRIVE_PREFIX)]:
            raise CorruptShardError(
                f"shard {name}: array {key!r} has the shape {array.shape}, which is no row a record"
            )


def require_start(arrays: Mapping[str, Kind], name: str) -> None:
    """`CorruptShardError` unless the arrays are the charges that a segment starts from, and their sizes."""
    for needed in ("charge", "scale"):
        if needed not in arrays:
            continue
        _require_numbers(needed, arrays[needed], name)
        if len(arrays[needed].shape) != 1:
            raise CorruptShardError(f"shard {name}: array {needed!r} has the shape {arrays[needed].shape}")


def _require_row(key: str, arrays: Mapping[str, Kind], name: str) -> None:
    """One row of an array that is kept in fewer bytes, which is there unless it follows from the others."""
    if arrays[key].shape != (1, arrays["charge"].shape[1]):
        raise CorruptShardError(f"shard {name}: array {key!r} has the shape {arrays[key].shape}")
    needed = key.removeprefix(LAST_PREFIX) if key.startswith(LAST_PREFIX) else LEFT
    if needed not in arrays or arrays[needed].shape != arrays["charge"].shape:
        raise CorruptShardError(f"shard {name}: array {key!r} stands there without rows of {needed!r}")


def _require_numbers(key: str, array: Kind, name: str) -> None:
    wanted = "iu" if key == "step" else _NUMBERS
    if array.dtype.kind not in wanted:
        raise CorruptShardError(f"shard {name}: array {key!r} is of type {array.dtype}, which it cannot be")
