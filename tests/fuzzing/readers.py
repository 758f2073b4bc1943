"""The readers under test: for each the files it starts from, the words of its format, and how it is called."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import shutil
import tarfile
import traceback
import uuid
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.durability import damage

import neuralmechanics as nm
from neuralmechanics.configuration.build import load_config
from neuralmechanics.experiments import TrainConfig
from neuralmechanics.experiments.data.readers.archives import open_archive
from neuralmechanics.experiments.data.readers.cifar import CIFAR10, CIFAR100, read_binary, read_python
from neuralmechanics.experiments.data.readers.folders import decoded, picture_files
from neuralmechanics.experiments.data.readers.idx import read_idx
from neuralmechanics.experiments.data.readers.pictures import Cut, picture_file
from neuralmechanics.experiments.data.readers.tables import count_rows, rows
from neuralmechanics.experiments.data.readers.tree import FolderTree, Place
from neuralmechanics.experiments.sweep import load_sweep
from neuralmechanics.files.weights import read_weights
from neuralmechanics.flows.comparison.config import read_config
from neuralmechanics.monitor.store import run_store
from neuralmechanics.monitor.store.shards.shard import read_shard, write_shard


@dataclass(frozen=True)
class Reader:
    """`seeds` by the name of the file that they are written to; `read` gets the folder that holds one of them."""

    name: str
    seeds: dict[str, bytes]
    read: Callable[[Path, str], None]
    words: list[bytes] = field(default_factory=list)
    repair: Callable[[str, bytes, random.Random], bytes] = lambda name, content, chance: content


def all_readers(folder: Path) -> dict[str, Reader]:
    """Every reader; `folder` is where templates are made."""
    made = (
        run_folders(folder),
        toml(),
        targets(),
        idx(),
        cifar(),
        archives(),
        image_folders(),
        pictures(),
        tables(),
        weights(),
    )
    return {reader.name: reader for reader in made}


def run_folders(folder: Path) -> Reader:
    """One file of a whole run is replaced; half of the time its checksums are made to fit again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_store.uuid, "uuid4", lambda: uuid.UUID(int=0))  # else every search has seeds of its own
        template = damage.make_run(folder / "template")
    files = ["run.json", "tally.txt", "segment-0001/segment.json", "segment-0001/start.safetensors"]
    files += [str(p.relative_to(template)) for p in sorted(template.glob("segment-0001/records-*"))[:2]]

    def read(where: Path, name: str) -> None:
        path = where / "run"
        shutil.copytree(template, path, dirs_exist_ok=True)
        (path / name).write_bytes((where / Path(name).name).read_bytes())
        for skip in (False, True):
            try:
                run = nm.open_run(path, skip_damaged=skip)
                _ = run.verify(), repr(run), run.segments, run.data, run.errors(), run.scalars
                run.drive_history()
            except ValueError as error:
                require_own(error)

    seeds = {name: (template / name).read_bytes() for name in files}
    words = [
        b'"content"',
        b'"families"',
        b'"laws"',
        b'"start_step"',
        b"null",
        b"-1",
        b"[]",
        b"{}",
        b"1e999",
        b'"\\ud800"',
    ]
    return Reader("runs", seeds, read, words, _fitting)


def _fitting(name: str, content: bytes, chance: random.Random) -> bytes:
    """The same file with right checksums, where it still has a place for them."""
    if chance.random() < 0.4:
        return content
    try:
        if name.endswith(".json"):
            document = json.loads(content)
            canonical = json.dumps(document["content"], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
            return json.dumps({"crc32": zlib.crc32(canonical.encode()), "content": document["content"]}).encode()
        if name.endswith(".txt"):
            head = content.partition(b"crc32=")[0]
            return head + f"crc32={zlib.crc32(head):08x}\n".encode()
        return _refitted_shard(content, chance)
    except (ValueError, KeyError, TypeError, RecursionError):
        return content


def _refitted_shard(content: bytes, chance: random.Random) -> bytes:
    """A shard whose arrays were given other shapes, types or names, under right checksums."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records-00000000-00000003.safetensors"
        path.write_bytes(content)
        shard = read_shard(path)
        arrays = dict(shard.arrays)
        name = chance.choice(sorted(arrays))
        array = arrays[name]
        choices: list[Callable[[], Any]] = [
            lambda: array.astype(chance.choice(["int8", "float32", "uint64", "bool", "complex64"])),
            lambda: array[:0],
            lambda: array[None],
            lambda: np.full_like(array, chance.choice([0, -1, 1, 127])),
            lambda: np.repeat(array, 2, axis=0) if array.ndim else array,
            lambda: array.reshape(-1),
        ]
        changed = chance.choice(choices)()
        arrays.pop(name)
        arrays[chance.choice([name, "step", "charge", "drives/step", "predicted/x", "scalar/step", "x"])] = changed
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write_shard(path, arrays, shard.link)
        return path.read_bytes()


def toml() -> Reader:
    """A configuration of a training, of a sweep, of a flow."""
    train = (
        b'model = "mlp"\nsteps = 3\nbatch_size = 16\nseed = 1\n[optimizer]\nlearning_rate = 0.1\nbetas = [0.9, 0.99]\n'
        b'[schedule]\nname = "drops"\nmilestones = [1.0, 2]\n[record]\nevery = 5\nmetrics = ["performance"]\n'
    )
    sweep = b'out = "x"\n[base]\nmodel = "mlp"\n[grid]\nseed = [0, 1]\noptimizer.weight_decay = [0, 1e-3]\n'
    flow = b'model = "mlp"\ninput_shape = [3]\nclasses = 2\nlearning_rates = [0.1]\n[optimizer]\nbetas = [0.1, 0.2]\n'

    def read(where: Path, name: str) -> None:
        for load in (lambda p: load_config(p, TrainConfig), load_sweep, read_config):
            try:
                load(where / name)
            except ValueError as error:
                require_own(error)

    words = [
        b"nan",
        b"inf",
        b"-1",
        b"[[",
        b"]]",
        b"{",
        b"}",
        b"'''",
        b'"""',
        b"= ",
        b"true",
        b"1979-05-27",
        b"a.b.c",
        b"\\u0000",
    ]
    return Reader("toml", {"train.toml": train, "sweep.toml": sweep, "flow.toml": flow}, read, words)


def targets() -> Reader:
    """Names of models. Modules are a stand-in: importing what a random name means is not what is tried."""
    from neuralmechanics.experiments import targets as module

    def read(where: Path, name: str) -> None:
        text = (where / name).read_bytes().decode("utf-8", errors="replace")
        real = module.importlib.import_module

        def stand_in(name: str, *more: Any) -> ModuleType:
            if name.startswith(("transformers", "huggingface_hub")):
                return real(name, *more)
            if not name or name.startswith("."):
                raise TypeError("a relative import requires a package")
            if len(name) % 3 == 0:
                raise ImportError(name)
            made = ModuleType("m")
            vars(made).update(make=lambda classes: torch.nn.Linear(3, classes), number=5, none=lambda: None)
            return made

        module.importlib = type("Imports", (), {"import_module": staticmethod(stand_in)})  # type: ignore[assignment]
        try:
            module.resolve_model(text, input_shape=(3,), classes=2)
        except ValueError as error:
            require_own(error)
        finally:
            import importlib

            module.importlib = importlib  # type: ignore[assignment]

    seeds = {"target": b"mlp-bn", "other": b"package.module:make", "third": b"hf:GPT2Config"}
    words = [
        b"hf:",
        b":",
        b"make",
        b"none",
        b"number",
        b"vgg",
        b"resnet",
        b"-bn",
        b"..",
        b"/",
        b"\x00",
        b"PretrainedConfig",
        b"logging",
    ]
    return Reader("targets", {name: seed for name, seed in seeds.items() if name != "third"}, read, words)


def idx() -> Reader:
    """IDX, plain and gzipped."""
    plain = b"\0\0\x08\x03" + b"\0\0\0\x02" + b"\0\0\0\x04" * 2 + bytes(32)
    seeds = {"a-idx3-ubyte": plain, "b-idx1-ubyte": b"\0\0\x08\x01\0\0\0\x05" + bytes(5)}

    def read(where: Path, name: str) -> None:
        try:
            read_idx(Place(FolderTree(where), name))
        except ValueError as error:
            require_own(error)

    def repair(name: str, content: bytes, chance: random.Random) -> bytes:
        return gzip.compress(content, mtime=0) if name.endswith(".gz") and chance.random() < 0.7 else content

    return Reader("idx", seeds | {"c-idx3-ubyte.gz": plain}, read, [b"\0\0\x08\x03", b"\x1f\x8b"], repair)


def cifar() -> Reader:
    """CIFAR's records."""

    def read(where: Path, name: str) -> None:
        try:
            (read_python if name.endswith(".pickle") else read_binary)(
                Place(FolderTree(where), name), *((CIFAR100, 100) if "100" in name else (CIFAR10, 10))
            )
        except ValueError as error:
            require_own(error)

    batch = {"data": np.zeros((2, 3072), np.uint8), "labels": [1, 2], "fine_labels": [3, 4]}
    seeds = {f"{name}.pickle": pickle.dumps(batch, protocol=k) for name, k in (("10", 2), ("100", 5))}
    words = [b"cos\nsystem\n", b"U\x04data", b"R", b"b", b"(", b"t", b"e", b"s", b"0", b"h\x00", b"q\xff"]
    return Reader("cifar", {"10.bin": bytes(2 * 3073), "100.bin": bytes(2 * 3074)} | seeds, read, words)


def archives() -> Reader:
    """A zip and a tar with a few small files, every one of which is read."""
    packed, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a/b/1.png", "a/2.png", "c"):
            archive.writestr(zipfile.ZipInfo(name), name * 9, zipfile.ZIP_DEFLATED)  # of no time
    with tarfile.open(fileobj=tarred, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a/" + "long" * 30)
        member.size = 40
        archive.addfile(member, io.BytesIO(bytes(40)))

    def read(where: Path, name: str) -> None:
        try:
            with open_archive(where / name) as tree:
                for file in Place(tree).below():
                    file.read(1 << 20)
        except ValueError as error:
            require_own(error)

    def repair(name: str, content: bytes, chance: random.Random) -> bytes:
        return gzip.compress(content, mtime=0) if name.endswith(".gz") and chance.random() < 0.7 else content

    seeds = {"a.zip": packed.getvalue(), "b.tar": tarred.getvalue(), "c.tar.gz": tarred.getvalue()}
    return Reader("archives", seeds, read, [b"PK\x01\x02", b"PK\x05\x06", b"../", b"ustar", b"size="], repair)


def _picture(kind: str, size: tuple[int, int] = (12, 9)) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)).save(out, kind)
    return out.getvalue()


def pictures() -> Reader:
    """One picture of every format that is read."""
    kinds = {
        "a.png": "PNG",
        "b.jpg": "JPEG",
        "c.gif": "GIF",
        "d.bmp": "BMP",
        "e.webp": "WEBP",
        "f.ppm": "PPM",
        "g.tif": "TIFF",
    }

    def read(where: Path, name: str) -> None:
        try:
            picture_file(Place(FolderTree(where), name), Cut(3, 8))
        except ValueError as error:
            require_own(error)

    return Reader("pictures", {name: _picture(kind) for name, kind in kinds.items()}, read)


def image_folders() -> Reader:
    """The names in a folder: a script of paths to make, and a table of annotations."""
    script = b"train/a/1.png\ntrain/b/images/2.png\nval/images/v.png\n"
    table = b"v.png\ta\t0\t0\nw.png\tb\n"

    def read(where: Path, name: str) -> None:
        root = where / "set"
        lines = script.splitlines() if name == "val_annotations.txt" else (where / name).read_bytes().splitlines()
        for line in lines[:20]:
            path = root / line.decode("utf-8", errors="replace").replace("\0", "").lstrip("/")[:200]
            if path.resolve().is_relative_to(root.resolve()) and path != root:
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(_PNG)
                except OSError:
                    continue
        if name == "val_annotations.txt" and (root / "val").is_dir():
            (root / "val" / name).write_bytes((where / name).read_bytes())
        try:
            found = picture_files(Place(FolderTree(root)))
            for files in (found.train, found.test) if found else ():
                if files is not None:
                    decoded("fuzz", files, Cut(3, 8))
        except ValueError as error:
            require_own(error)

    words = [b"train/", b"val/", b"images/", b".png", b"test/a/", b"\n", b"../", b"\t", b"a"]
    return Reader("folders", {"script.txt": script, "val_annotations.txt": table}, read, words)


_PNG = _picture("PNG")


def tables() -> Reader:
    """Parquet and Arrow files with a picture and a label in each row."""
    import pyarrow
    import pyarrow.parquet as parquet

    table = pyarrow.Table.from_pylist([{"img": {"bytes": _PNG, "path": None}, "label": n} for n in range(3)])
    out, stream = io.BytesIO(), io.BytesIO()
    parquet.write_table(table, out)
    with pyarrow.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)

    def read(where: Path, name: str) -> None:
        try:
            place = Place(FolderTree(where), name)
            count_rows([place], ("img", "label"))
            for number, _ in enumerate(rows([place], ("img", "label"), 10)):
                if number > 100:
                    return
        except ValueError as error:
            require_own(error)

    words = [b"PAR1", b"img", b"label", b"ARROW1"]
    return Reader("tables", {"train.parquet": out.getvalue(), "train.arrow": stream.getvalue()}, read, words)


def weights() -> Reader:
    """Weights as torch and as safetensors write them."""
    from safetensors.torch import save

    state = {"a.weight": torch.zeros(2, 3), "a.bias": torch.zeros(2)}
    out = io.BytesIO()
    torch.save({"model": state}, out)

    def read(where: Path, name: str) -> None:
        try:
            read_weights(where / name)
        except ValueError as error:
            require_own(error)

    return Reader(
        "weights", {"w.pt": out.getvalue(), "w.safetensors": save(state)}, read, [b"__metadata__", b"F64", b"BF16"]
    )


def require_own(error: ValueError) -> None:
    """What the package raises of itself, in its own code: a `ValueError`, in one line that says something"""
    own = type(error) is ValueError or type(error).__module__.startswith("neuralmechanics")
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    if not own or Path(nm.__file__).parent not in Path(raised_in).parents or "\n" in str(error) or not str(error):
        raise AssertionError(f"{type(error).__module__}.{type(error).__name__}: {error}") from error
