"""Single records merged one after the other are the shard that all of them at once would be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.monitor.store.test_compact import AWKWARD, N, record, same

from neuralmechanics.monitor.store.layout import shard_name
from neuralmechanics.monitor.store.merging import block_of, merge_blocks, merged
from neuralmechanics.monitor.store.shards.compact import compacted
from neuralmechanics.monitor.store.shards.narrow import narrowed
from neuralmechanics.monitor.store.shards.shard import Arrays, Link, read_shard, write_shard


@pytest.mark.parametrize(("size", "block"), [(10, 64), (1 << 17, 64), (1 << 18, 32), (1 << 21, 4), (1 << 25, 4)])
def test_a_block_holds_eight_million_numbers_of_a_kind_and_four_records_at_least(size: int, block: int) -> None:
    """Of the largest kind: the others of a record are small beside it."""
    large = np.broadcast_to(0.0, (1, size))
    assert block_of({"step": np.zeros(1), "charge": large, "hyper/momentum": np.zeros((1, 1))}) == block


def _without(arrays: Arrays, *names: str) -> Arrays:
    return {name: array for name, array in arrays.items() if name not in names}


CASES: dict[str, list[Arrays]] = {
    "floats": [compacted(record(k), single=True) for k in range(4)],
    "doubles": [compacted(record(k), single=False) for k in range(4)],
    "a residual that is missing": [
        _without(compacted(record(k), single=True), *(["residual"] if k == 2 else [])) for k in range(4)
    ],
    "a law that is missing": [
        _without(compacted(record(k), single=True), *(["error/gradient_flow"] if k < 2 else [])) for k in range(4)
    ],
    "predictions of both kinds": [
        compacted(record(k, **AWKWARD["charge inf" if k == 1 else "plain"]), single=True) for k in range(4)
    ],
    "one setting, and one a charge": [
        compacted(record(k, hyper__learning_rate=np.full((1, N if k == 3 else 1), 0.1)), single=True) for k in range(4)
    ],
}


@pytest.mark.parametrize("case", CASES)
def test_record_by_record_the_shard_is_that_of_all_at_once(case: str, tmp_path: Path) -> None:
    """The laws' state is that of the last record, gaps are nan, and the single shards are gone."""
    rows = CASES[case]
    for number, arrays in enumerate(rows):
        write_shard(tmp_path / shard_name(number, number), arrays, Link("run", 0, number, 1, 0))
    for _ in merge_blocks(tmp_path, 4, "run", 0, 0):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [shard_name(0, 3)]
    shard = read_shard(tmp_path / shard_name(0, 3))
    assert same(shard.arrays, narrowed(merged(rows)))
    assert shard.link == Link("run", 0, 0, 4, 0)
    states = [name for name in rows[-1] if name.startswith("state/")]
    assert states
    assert same({name: shard.arrays[name] for name in states}, {name: rows[-1][name] for name in states})
