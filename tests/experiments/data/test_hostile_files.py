"""Data sets that somebody else made: bounded, read from their own folder alone, every fault named, no request."""

from __future__ import annotations

import gzip
import os
import resource
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuralmechanics.experiments import ImageConfig, load_data
from neuralmechanics.experiments.data.cache import cache_folder, cached

from ..formats import (
    SMALL,
    load_small,
    random_images,
    write_cifar,
    write_hub,
    write_image,
    write_image_folder,
    write_mnist,
    write_tiny_imagenet,
)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any request fails the test, whatever catches its error."""

    def refuse(*arguments: object, **options: object) -> None:
        pytest.fail(f"a local folder caused a request: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def refused(name: str, root: Path, match: str, **options: object) -> None:
    with pytest.raises(ValueError, match=match) as error:
        load_data(name, ImageConfig(root=str(root), **options), sources=SMALL)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _zipped(header: bytes, block: bytes, times: int) -> bytes:
    """The gzip of a header and of a block so many times, which is packed once."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first, again = (packer.compress(part) + packer.flush(zlib.Z_FULL_FLUSH) for part in (header, block))
    checksum, length = zlib.crc32(header), len(header) + times * len(block)
    for _ in range(times):
        checksum = zlib.crc32(block, checksum)
    start = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    return start + first + again * times + packer.flush() + struct.pack("<II", checksum, length)


def test_a_small_gzip_never_becomes_large(tmp_path: Path) -> None:
    """1 MB that unpack to a gigabyte of black images, announced or not."""
    write_mnist(tmp_path, zipped=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    before = _peak()
    for count, match in ((1_200_000, "promises 1200000×28×28 bytes, more than"), (60, "cut short or has rests")):
        header = b"\0\0\x08\x03" + struct.pack(">3I", count, 28, 28)
        path.write_bytes(_zipped(header, bytes(1 << 20), 900))
        assert path.stat().st_size < 1.1e6
        refused("mnist", tmp_path, match)
    assert _peak() - before < 100_000  # kB


@pytest.mark.parametrize(
    "content", [b"", b"\x1f\x8b", b"no gzip", gzip.compress(b"\0\0\x08\x03", mtime=0)[:-4]], ids=range(4)
)
def test_a_gzip_that_is_none(tmp_path: Path, content: bytes) -> None:
    write_mnist(tmp_path, zipped=True)
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(content)
    refused("mnist", tmp_path, "t10k-images-idx3-ubyte.gz")


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((12, 30, 30), "holds images of 30×30, not 28×28"),
        ((12, 784), "hold images of shape"),
        ((0, 28, 28), "hold images"),
    ],
)
def test_idx_of_another_shape(tmp_path: Path, shape: tuple[int, ...], match: str) -> None:
    write_mnist(tmp_path)
    header = b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(header + bytes(int(np.prod(shape))))
    refused("mnist", tmp_path, match)


def test_labels_are_compared_with_the_classes(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    path = tmp_path / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x0a")
    refused("mnist", tmp_path, "t10k-labels-idx1-ubyte' holds the label 10, which is none of the classes 0 to 9")
    for classes, label, file in ((10, 10, "test_batch.bin"), (100, 100, "test.bin")):
        root = tmp_path / str(classes)
        root.mkdir()
        write_cifar(root, classes)
        content = bytearray((root / file).read_bytes())
        content[classes == 100] = label
        (root / file).write_bytes(content)
        refused(f"cifar{classes}", root, f"{file}' holds the label {label}")
    write_hub(tmp_path / "hub", "cifar10")
    import pyarrow.parquet as parquet

    table_path = next((tmp_path / "hub" / "data").glob("train*"))
    rows = parquet.read_table(table_path).to_pylist()
    for label in (10, -1, None):
        rows[3]["label"] = label
        parquet.write_table(__import__("pyarrow").Table.from_pylist(rows), table_path)
        refused("cifar10", tmp_path / "hub", f"row 3 has the label {label}")


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_file_is_not_read(tmp_path: Path, kind: str) -> None:
    def put(path: Path) -> None:
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to("/dev/zero")

    write_mnist(tmp_path)
    put(tmp_path / "train-labels-idx1-ubyte")
    refused(
        "mnist", tmp_path, "lacks train-labels-idx1-ubyte" if kind == "folder" else "labels-idx1-ubyte' is a |leads"
    )
    (tmp_path / "cifar").mkdir()
    write_cifar(tmp_path / "cifar", 100)
    put(tmp_path / "cifar" / "train.bin")
    refused("cifar100", tmp_path / "cifar", "train.bin' is a |leads out of the folder")
    if kind == "folder":
        return
    write_image_folder(tmp_path / "images")
    put(tmp_path / "images" / "class1" / "03.png")
    refused("folder", tmp_path / "images", "is a named pipe" if kind == "pipe" else "leads out of the folder")


def test_links_that_lead_out_of_the_folder(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    write_image(secret / "key.png", random_images(1, 3, 40)[0])
    root = tmp_path / "images"
    write_image_folder(root)
    for link in (root / "class1" / "99.png", root / "class9", root / "class1" / "more"):
        link.symlink_to(secret / "key.png" if link.suffix else secret)
        refused("folder", root, "leads out of the folder .* a data set is read from its own folder alone")
        link.unlink()
    (root / "class1" / "99.png").symlink_to("00.png")  # inside it may point where it likes
    assert len(load_data("folder", ImageConfig(root=str(root), size=40)).train) == 28


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/passwd", "..", "images/val_0.png", "a/../val_0.png"])
def test_annotations_name_files_beside_them(tmp_path: Path, name: str) -> None:
    write_tiny_imagenet(tmp_path / "tiny")
    write_image(tmp_path / "secret.png", random_images(1, 3, 64)[0])
    table = tmp_path / "tiny" / "val" / "val_annotations.txt"
    table.write_text(table.read_text().replace("val_0.png", name, 1))
    refused("tiny-imagenet", tmp_path / "tiny", "it must name files in its folder 'images'")


def test_an_annotated_file_that_is_a_link_out(tmp_path: Path) -> None:
    write_tiny_imagenet(tmp_path / "tiny")
    write_image(tmp_path / "secret.png", random_images(1, 3, 64)[0])
    link = tmp_path / "tiny" / "val" / "images" / "val_0.png"
    link.unlink()
    link.symlink_to(tmp_path / "secret.png")
    refused("tiny-imagenet", tmp_path / "tiny", "leads out of the folder")


def test_a_card_that_points_elsewhere_is_not_followed(tmp_path: Path) -> None:
    first, _ = write_hub(tmp_path / "set", "cifar10")
    write_hub(tmp_path / "other", "cifar10")
    (tmp_path / "set" / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n"
        "    path: ['https://example.com/train.parquet', '../other/data/train-00000-of-00001.parquet']\n---\n"
    )
    (tmp_path / "set" / "set.py").write_text("raise SystemExit('the script ran')")
    data = load_small("cifar10", tmp_path / "set")
    assert np.array_equal(data.train.inputs.numpy(), first)
    link = tmp_path / "set" / "data" / "train-00001-of-00002.parquet"
    link.symlink_to(tmp_path / "other" / "data" / "train-00000-of-00001.parquet")
    refused("cifar10", tmp_path / "set", "leads out of the folder")


@pytest.mark.parametrize("path", ["https://example.com/a.png", "../secret.png", "/etc/passwd"])
def test_pictures_outside_their_table_are_not_read(tmp_path: Path, path: str) -> None:
    import pyarrow
    import pyarrow.parquet as parquet

    write_hub(tmp_path / "set", "cifar10")
    table = next((tmp_path / "set" / "data").glob("test*"))
    rows = [{"img": {"bytes": None, "path": path}, "label": 1}] * 20
    parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    refused(
        "cifar10", tmp_path / "set", "row 0 holds no picture; pictures outside the file are not read|promises 20 rows"
    )


def test_pictures_of_too_many_pixels(tmp_path: Path) -> None:
    """A PNG of 9 kB can hold 81 million pixels; one of 70,000×1 must not be scaled to 4.9 million rows."""
    write_image_folder(tmp_path)
    before = _peak()
    for size, match in (
        ((9000, 9000), "9000×9000 pixels, more than"),
        ((70_000, 1), "70000×1 pixels, which is too narrow"),
    ):
        Image.new("1", size).save(tmp_path / "class1" / "03.png")
        refused("folder", tmp_path, rf"cannot decode .*03.png': it has {match}", size=40)
    assert _peak() - before < 200_000


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"II*\0\xff\xff\xff\xff"]
)
def test_pictures_that_are_none(tmp_path: Path, content: bytes) -> None:
    write_image_folder(tmp_path)
    (tmp_path / "class1" / "03.png").write_bytes(content)
    refused("folder", tmp_path, r"cannot decode .*03\.png", size=40)


def test_folders_without_end(tmp_path: Path) -> None:
    write_image_folder(tmp_path)
    (tmp_path / "class1" / "loop").symlink_to("..")  # a link inside is no folder of images
    load_data("folder", ImageConfig(root=str(tmp_path), size=40))
    (tmp_path / "class1" / Path(*["d"] * 40)).mkdir(parents=True)
    refused("folder", tmp_path, "nested more than 32 deep", size=40)


def test_a_killed_decoding_leaves_nothing_and_a_damaged_cache_is_named(tmp_path: Path) -> None:
    abandoned = cache_folder() / ".partial-999999999-some-key"
    abandoned.mkdir(parents=True)
    (abandoned / "inputs.npy").write_bytes(b"half")
    split = load_data("digits").test
    assert np.array_equal(cached("key-of-this-test", lambda: split).labels, split.labels)
    assert not abandoned.exists()
    file = cache_folder() / "key-of-this-test" / "labels.npy"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"the cached data set .* is damaged .* remove that folder"):
        cached("key-of-this-test", lambda: split)
