"""The store: shards that are absent or whole, damage that is named, segments that follow one another."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.durability.training import session

import neuralmechanics as nm
from neuralmechanics.monitor import CorruptShardError, NotARunError
from neuralmechanics.monitor.store.layout import segments, shards
from neuralmechanics.monitor.store.shards.shard import Link, read_shard, write_shard
from neuralmechanics.monitor.store.tally import Tally, read_tally


def record(training: Any, store: Path, steps: range, **options: Any) -> None:
    optimizer = training.sgd(momentum=0.9, weight_decay=1e-3)
    with nm.Monitor(
        training.model, optimizer, training.symmetries, store, strict=True, **{"every": 1, **options}
    ) as monitor:
        training.run(optimizer, steps, lambda step, loss: monitor.log(loss=loss))


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_every_flipped_bit_is_refused_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "segment-0000" / "records-00000000-00000000.safetensors"
    path.parent.mkdir()
    arrays = {
        "charge": np.arange(12.0).reshape(2, 6),
        "step": np.array([3, 4]),
        "flags": np.array([True, False]),
        "empty": np.zeros((2, 0)),
    }
    write_shard(path, arrays)
    whole = path.read_bytes()
    messages = []
    bits = range(0, len(whole) * 8, 7)
    for bit in bits:
        flip(path, bit)
        try:
            found = read_shard(path).arrays
        except CorruptShardError as error:
            messages.append(str(error))
        else:
            assert found.keys() == arrays.keys()
            for name, array in arrays.items():
                assert found[name].dtype == array.dtype
                assert np.array_equal(found[name], array)
        path.write_bytes(whole)
    assert len(messages) > 0.97 * len(bits)
    assert all("\n" not in m and f"segment-0000/{path.name}: " in m for m in messages)


def test_the_same_arrays_are_the_same_bytes(tmp_path: Path) -> None:
    link = Link("run", 0, 0, 1, 0)
    for n in range(12):
        write_shard(tmp_path / str(n), {"charge": np.ones(3), "b": np.zeros((2, 2))}, link)
    assert len({(tmp_path / str(n)).read_bytes() for n in range(12)}) == 1
    assert read_shard(tmp_path / "0").link == link


@pytest.mark.parametrize("length", [0, 4, 8, 100])
def test_a_shard_cut_short_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "records-00000000-00000000.safetensors"
    write_shard(path, {"a": np.arange(30.0)})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CorruptShardError, match="cannot be read"):
        read_shard(path)


def test_a_damaged_shard_is_named_and_the_others_are_readable(training: Any, store: Path) -> None:
    record(training, store, range(10))
    victim = shards(segments(store)[0])[4].path
    flip(victim, 8 * (victim.stat().st_size - 3))
    run = nm.open_run(store)
    name = f"segment-0000/{victim.name}"
    with pytest.raises(CorruptShardError, match=rf"shard {name}.*skip_damaged=True") as error:
        _ = run.data
    assert "\n" not in str(error.value)
    with pytest.raises(CorruptShardError):
        run.errors()
    table = run.verify()
    assert list(table[~table["sound"]]["shard"]) == [name]
    rest = nm.open_run(store, skip_damaged=True)
    assert list(rest.data["step"].values) == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert len(rest.errors())
    assert "1 damaged" in repr(run)


def test_a_law_is_not_replayed_across_a_lost_record(training: Any, store: Path) -> None:
    """The drives of steps 5 and 6 are gone with the record of step 6; those around it are no history."""
    record(training, store, range(10), every=2, drives=True)
    assert len(nm.open_run(store).drive_history()) == 10
    shards(segments(store)[0])[3].path.unlink()
    with pytest.raises(ValueError, match=r"has no drives of step 5: a law cannot be replayed across the gap"):
        nm.open_run(store, skip_damaged=True).drive_history()


def test_damaged_descriptions_are_named(training: Any, store: Path) -> None:
    record(training, store, range(2))
    for name in ("segment-0000/segment.json", "segment-0000/start.safetensors"):
        file = store / name
        whole = file.read_bytes()
        flip(file, 8 * (len(whole) // 2))
        table = nm.open_run(store).verify()
        assert list(table[~table["sound"]]["shard"]) == [name]
        with pytest.raises(CorruptShardError, match=Path(name).stem):
            _ = nm.open_run(store).data
        file.write_bytes(whole)
    text = (store / "run.json").read_text()
    (store / "run.json").write_text(text.replace("Sequential", "Sequentiel"))
    with pytest.raises(ValueError, match=r"run.json is damaged"):
        nm.open_run(store)


def test_records_are_merged_and_nothing_changes(training: Any, store: Path, make: Callable[..., Any]) -> None:
    record(training, store, range(131), drives=True)
    files = shards(segments(store)[0])
    assert [(f.first, f.last) for f in files[:3]] == [(0, 63), (64, 127), (128, 128)]
    assert len(list(store.glob("segment-0000/records-*"))) == len(files)
    again = make()
    optimizer = again.sgd(momentum=0.9, weight_decay=1e-3)
    with nm.Monitor(again.model, optimizer, again.symmetries, every=1, drives=True, strict=True) as monitor:
        again.run(optimizer, range(131), lambda step, loss: monitor.log(loss=loss))
    stored, kept = nm.open_run(store), monitor.run
    drop = ["time"]
    assert stored.data.drop_vars(drop).identical(kept.data.drop_vars(drop).assign_attrs(stored.data.attrs))
    assert len(stored.drive_history()) == 131


def test_singles_left_by_a_killed_merge_are_not_counted_twice(training: Any, store: Path) -> None:
    record(training, store, range(63))
    folder = segments(store)[0]
    (merged,) = shards(folder)
    expected = nm.open_run(store).data
    (folder / "records-00000005-00000005.safetensors").write_bytes(merged.path.read_bytes())
    (folder / ".tmp-1-records-00000064-00000064.safetensors").write_bytes(b"torn")
    assert nm.open_run(store).data.identical(expected)


def test_the_tally_counts_the_records_and_says_when_no_more_are_to_follow(training: Any, store: Path) -> None:
    optimizer = training.sgd()
    with nm.Monitor(training.model, optimizer, training.symmetries, store, every=1, strict=True):
        training.run(optimizer, range(3))
        assert read_tally(store) == Tally(segments=1, records=3, closed=False)
    assert read_tally(store) == Tally(segments=1, records=4, closed=True)


def test_a_path_that_is_no_run(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none", "no such path"), (tmp_path, "no run.json in it")):
        with pytest.raises(NotARunError, match=why) as error:
            nm.open_run(path)
        assert "\n" not in str(error.value)
    file = tmp_path / "file"
    file.write_text("text")
    with pytest.raises(NotARunError, match="not a folder"):
        nm.open_run(file)


def test_a_folder_with_other_things_is_not_written_into(training: Any, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("text")
    with pytest.raises(ValueError, match="holds other files"):
        nm.Monitor(training.model, training.sgd(), training.symmetries, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(ValueError, match="it is a file"):
        nm.Monitor(training.model, training.sgd(), training.symmetries, tmp_path / "thesis.tex")


def test_run_describes_itself(training: Any, store: Path) -> None:
    record(training, store, range(3))
    run = nm.open_run(store)
    assert run.config["monitor"]["every"] == 1
    assert run.config["optimizer"]["name"] == "SGD"
    assert run.config["optimizer"]["groups"][0]["momentum"] == 0.9
    assert run.origin["versions"]["torch"] == torch.__version__
    assert run.symmetries.labels == training.symmetries.labels
    assert [s["start_step"] for s in run.segments] == [0]


def checkpoint(training: Any, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
    copy = {name: tensor.clone() for name, tensor in training.model.state_dict().items()}
    state = optimizer.state_dict()
    buffers = {k: {n: v.clone() for n, v in s.items()} for k, s in state["state"].items()}
    return copy, {"state": buffers, "param_groups": state["param_groups"]}


def resume(make: Callable[..., Any], saved: tuple[Any, Any]) -> tuple[Any, torch.optim.Optimizer]:
    training = make()
    training.model.load_state_dict(saved[0])
    optimizer = training.sgd(momentum=0.9, weight_decay=1e-3)
    optimizer.load_state_dict(saved[1])
    return training, optimizer


OPTIONS: dict[str, Any] = {"every": 5, "residuals": True, "drives": True, "strict": True}


def test_a_resumed_run_goes_on_exactly(make: Callable[..., Any], store: Path, tmp_path: Path) -> None:
    whole = make()
    optimizer = whole.sgd(momentum=0.9, weight_decay=1e-3)
    with nm.Monitor(whole.model, optimizer, whole.symmetries, tmp_path / "whole", **OPTIONS):
        whole.run(optimizer, range(83))
    first = make()
    optimizer = first.sgd(momentum=0.9, weight_decay=1e-3)
    with nm.Monitor(first.model, optimizer, first.symmetries, store, **OPTIONS):
        first.run(optimizer, range(40))
    second, optimizer = resume(make, checkpoint(first, optimizer))
    with nm.Monitor(second.model, optimizer, second.symmetries, store, resume=True, **OPTIONS) as monitor:
        second.run(optimizer, range(40, 83))
        assert monitor.step == 83
    a, b = nm.open_run(tmp_path / "whole"), nm.open_run(store)
    assert [s["continued"] for s in b.segments] == [True, True]
    assert list(b.data["segment"].values) == [0] * 8 + [1] * 10
    drop = ["time", "segment", "first_step"]
    rows = [step for step in a.data["step"].values if step != 40]
    assert b.data.drop_vars(drop).sel(step=rows).equals(a.data.drop_vars(drop).sel(step=rows))
    assert np.array_equal(b.data["predicted"], a.data["predicted"], equal_nan=True)
    assert len(b.drive_history()) == 83


def test_resuming_at_an_earlier_record_replaces_what_came_after(make: Callable[..., Any], store: Path) -> None:
    training = make()
    optimizer = training.sgd(momentum=0.9, weight_decay=1e-3)
    with nm.Monitor(training.model, optimizer, training.symmetries, store, **OPTIONS):
        training.run(optimizer, range(20))
        saved = checkpoint(training, optimizer)
        training.run(optimizer, range(20, 50))
    second, optimizer = resume(make, saved)
    with nm.Monitor(second.model, optimizer, second.symmetries, store, resume=True, **OPTIONS):
        second.run(optimizer, range(120, 133))
    run = nm.open_run(store)
    assert list(run.data["step"].values) == [0, 5, 10, 15, 20, 25, 30, 33]
    assert run.errors(by="kind").set_index(["kind", "law"]).loc[("rescale", "exact"), "max_error"] < 1e-13
    assert len(run.drive_history()) == 33


def test_parameters_of_no_record_start_the_laws_anew_with_their_buffers(make: Callable[..., Any], store: Path) -> None:
    training = make()
    optimizer = training.sgd(momentum=0.9, weight_decay=1e-3)
    with nm.Monitor(training.model, optimizer, training.symmetries, store, **OPTIONS):
        training.run(optimizer, range(13))
        saved = checkpoint(training, optimizer)
        training.run(optimizer, range(13, 20))
    second, optimizer = resume(make, saved)
    with (
        pytest.raises(ValueError, match=r"are of no record .*, whose last step is 20, .* resume=STEP"),
        nm.Monitor(second.model, optimizer, second.symmetries, store, resume=True, **OPTIONS),
    ):
        second.run(optimizer, range(13, 14))
    second, optimizer = resume(make, saved)
    with nm.Monitor(second.model, optimizer, second.symmetries, store, resume=13, **OPTIONS) as monitor:
        second.run(optimizer, range(13, 30))
        assert monitor.step == 30
    run = nm.open_run(store)
    assert list(run.data["step"].values) == [0, 5, 10, 13, 15, 20, 25, 30]  # the abandoned tail is gone
    assert [s["continued"] for s in run.segments] == [True, False]
    data = run.data.sel(step=slice(13, None))
    error = np.abs(data["predicted"].sel(law="exact") - data["charge"]) / data["scale"]
    # ⟨θ,v⟩ of the loaded buffers is measured, so the exact law holds from its first step.
    assert float(error.max()) < 1e-13


def test_other_symmetries_are_not_appended(training: Any, make: Callable[..., Any], store: Path) -> None:
    record(training, store, range(2))
    other = make("convnet")
    with pytest.raises(ValueError, match="its symmetries are not those given") as error:
        nm.Monitor(other.model, other.sgd(), other.symmetries, store)
    assert "\n" not in str(error.value)


def test_a_segment_killed_before_its_first_record_replaces_nothing(training: Any, store: Path) -> None:
    record(training, store, range(6))
    expected = nm.open_run(store).data
    from neuralmechanics.monitor.store.run_store import RunStore

    RunStore(store).begin_segment({"start_step": 2}, {"charge": np.zeros(3)})
    assert nm.open_run(store).data.identical(expected)
    unfinished = store / ".partial-1-segment-0002"
    unfinished.mkdir()
    assert nm.open_run(store).data.identical(expected)
    assert [f.name for f in segments(store)] == ["segment-0000", "segment-0001"]


def test_a_segment_that_was_lost_is_not_taken_for_a_free_number(tmp_path: Path) -> None:
    """The next one comes after the last that there is, and what was written stays where it stands."""
    folder = tmp_path / "run"
    for start in (0, 2, 4):
        session(folder, start, 2, lambda _: None)
    shutil.rmtree(folder / "segment-0001")
    session(folder, 6, 2, lambda _: None)
    assert sorted(path.name for path in folder.glob("segment-*")) == ["segment-0000", "segment-0002", "segment-0003"]
    run = nm.open_run(folder, skip_damaged=True)
    assert set(run.verify().query("not sound")["problem"]) == {"segment-0001 is missing"}
    assert {4, 5, 6, 7} <= set(run.data["step"].values.tolist())


def test_random_bits_of_a_whole_run(training: Any, store: Path) -> None:
    record(training, store, range(6))
    expected = nm.open_run(store).data
    chance = random.Random(0)
    for _ in range(15):
        file = chance.choice(sorted(store.rglob("*.safetensors")))
        whole = file.read_bytes()
        flip(file, chance.randrange(len(whole) * 8))
        table = nm.open_run(store).verify()
        if table["sound"].all():
            assert nm.open_run(store).data.identical(expected)
        else:
            assert list(table[~table["sound"]]["shard"]) == [f"segment-0000/{file.name}"]
        file.write_bytes(whole)
