"""Packed rows are the rows to the last bit, and what is no packed row is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neuralmechanics.monitor.store.shards.pack import pack, packs, unpack
from neuralmechanics.monitor.store.shards.shard import CorruptShardError, Link, read_shard, write_shard

LINK = Link("run", 0, 0, 8, 0)


def rows(dtype: str, kind: str) -> np.ndarray:
    chance = np.random.default_rng(0)
    values = {
        "noise": chance.normal(size=(8, 1000)),
        "walk": 1 + np.cumsum(1e-5 * chance.normal(size=(8, 1000)), axis=0),
        "zero": np.zeros((8, 1000)),
        "nan": np.where(chance.random((8, 1000)) < 0.5, np.nan, np.inf),
        "any bits": chance.integers(0, 2**16, size=(8, 1000)),
        "long": chance.normal(size=(2, 50_000)),
        "tall": chance.normal(size=(5000, 1)),
    }[kind]
    if dtype == "<u2":
        return np.nan_to_num(np.abs(values), posinf=1.0).astype(np.uint16)
    return values.astype(dtype)


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<u2"])
@pytest.mark.parametrize("kind", ["noise", "walk", "zero", "nan", "any bits", "long", "tall"])
def test_what_is_unpacked_is_what_was_packed(dtype: str, kind: str) -> None:
    array = rows(dtype, kind)
    assert packs(array)
    packed = pack(array)
    back = unpack(packed, dtype, array.shape)
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()
    assert packed.nbytes <= array.nbytes + 8 * array.itemsize
    if kind in ("walk", "zero"):
        assert packed.nbytes < 0.9 * array.nbytes


def test_few_numbers_flags_and_single_rows_are_not_packed() -> None:
    assert not packs(np.zeros((8, 100)))
    assert not packs(np.zeros((1, 100_000)))
    assert not packs(np.zeros(100_000))
    assert not packs(np.zeros((8, 1000), dtype=bool))


@pytest.mark.parametrize("size", [-1, 1, -100])
def test_bytes_of_another_length_are_refused(size: int) -> None:
    packed = pack(rows("<f4", "noise"))
    wrong = packed[:size] if size < 0 else np.append(packed, np.uint8(0))
    with pytest.raises(ValueError, match=r"packed|bytes"):
        unpack(wrong, "<f4", (8, 1000))


def test_sizes_that_no_packing_reaches_are_refused_before_memory_is_asked_for() -> None:
    with pytest.raises(ValueError, match="cannot be"):
        unpack(pack(rows("<f8", "zero")), "<f8", (1 << 20, 1 << 20))


@pytest.mark.parametrize(
    ("dtype", "shape"), [("<i8", (8, 1000)), ("<f4", (0, 1000)), ("<f4", (-8, -1000)), ("O", (8, 1))]
)
def test_other_types_and_shapes_are_refused(dtype: str, shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="packed rows"):
        unpack(pack(rows("<f4", "noise")), dtype, shape)


def test_a_packed_shard_is_read_as_it_was_and_every_changed_byte_is_named(tmp_path: Path) -> None:
    arrays = {"charge": rows("<f4", "walk"), "residual": rows("<u2", "any bits"), "step": np.arange(8)}
    path = tmp_path / "segment-0000" / "records-00000000-00000007.safetensors"
    path.parent.mkdir()
    write_shard(path, arrays, LINK, packed=True)
    shard = read_shard(path)
    assert shard.link == LINK
    assert {n: (a.dtype, a.tobytes()) for n, a in shard.arrays.items()} == {
        n: (a.dtype, a.tobytes()) for n, a in arrays.items()
    }
    content = path.read_bytes()
    assert b"shard-3" in content
    for place in [*range(8, 700, 7), *range(800, len(content), 997)]:
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            after = read_shard(path)
        except CorruptShardError:
            continue
        # a byte of the padding or of the spelling of a name that both readers take alike
        assert {n: a.tobytes() for n, a in after.arrays.items()} == {n: a.tobytes() for n, a in arrays.items()}


def test_shards_without_long_rows_are_written_as_before(tmp_path: Path) -> None:
    path = tmp_path / "records-00000000-00000007.safetensors"
    write_shard(path, {"charge": np.zeros((8, 3))}, LINK, packed=True)
    assert b"shard-2" in path.read_bytes()
