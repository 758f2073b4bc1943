"""A copy that is not whole is refused by name, with what was found; nothing of it is decoded or executed."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from neuralmechanics.experiments import ImageConfig, load_data
from neuralmechanics.experiments.data.readers.pickles import read_pickle
from neuralmechanics.experiments.data.sources import SOURCES

from ..formats import (
    load_small,
    random_images,
    write_cifar,
    write_cifar_python,
    write_hub,
    write_image,
    write_image_folder,
    write_mnist,
    write_tiny_imagenet,
    zip_folder,
)


def refused(name: str, root: Path, match: str) -> None:
    with pytest.raises(ValueError, match=match) as error:
        load_small(name, root)
    assert "\n" not in str(error.value)


def test_the_published_numbers():
    """As their publishers state them."""
    totals = {name: (s.classes, s.train.images, s.test.images) for name, s in SOURCES.items()}
    assert totals == {
        "mnist": (10, 60_000, 10_000),
        "cifar10": (10, 50_000, 10_000),
        "cifar100": (100, 50_000, 10_000),
        "tiny-imagenet": (200, 100_000, 10_000),
        "imagenet": (1000, 1_281_167, 50_000),
    }
    for source in SOURCES.values():
        for count in (source.train, source.test):
            assert count.each is None or int(np.broadcast_to(count.each, source.classes).sum()) == count.images


@pytest.mark.parametrize("theirs", [True, False])
def test_files_made_to_take_the_place_of_mnist_are_told_from_it(theirs, tmp_path):
    """Fashion-MNIST, KMNIST and their like have MNIST's names, sizes and totals; their classes are equally large."""
    for part, count in (("train", SOURCES["mnist"].train), ("t10k", SOURCES["mnist"].test)):
        each = np.broadcast_to(count.images // 10, 10) if theirs else np.array(count.each)
        labels = np.repeat(np.arange(10, dtype=np.uint8), each)
        np.random.default_rng(0).shuffle(labels)
        images = np.full((count.images, 28, 28), part == "train", dtype=np.uint8)
        header = struct.pack(">IIII", 2051, *images.shape)
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, len(labels)) + labels.tobytes())
    if theirs:
        with pytest.raises(ValueError, match="is no whole copy of mnist: 6000 training images of class 0 where 5923"):
            load_data("mnist", ImageConfig(root=str(tmp_path)))
    else:
        assert len(load_data("mnist", ImageConfig(root=str(tmp_path))).train) == 60_000


def test_a_small_copy_is_none_of_the_published_sets(tmp_path):
    """Without the small copies' numbers, which nothing outside these tests gives, every one of them is refused."""
    write_mnist(tmp_path / "mnist")
    write_cifar(tmp_path / "cifar10", 10)
    write_cifar(tmp_path / "cifar100", 100)
    write_tiny_imagenet(tmp_path / "tiny-imagenet")
    for name, found in {
        "mnist": "40 training images where 60000",
        "cifar10": "100 training images where 50000",
        "cifar100": r"no training image of class 20 \(80 classes lack\)",
        "tiny-imagenet": "4 classes .* where 200",
    }.items():
        with pytest.raises(ValueError, match=f"{name}' is no whole copy of {name}: {found}.* as images.root"):
            load_data(name, ImageConfig(root=str(tmp_path / name)))


def test_a_folder_around_train_and_val_is_no_class(tmp_path):
    """The zip unpacked inside a folder of any name must never train the one class 'tiny-imagenet-200'."""
    write_tiny_imagenet(tmp_path / "around" / "some-other-name")
    refused("tiny-imagenet", tmp_path / "around", "no tiny-imagenet in .*, which holds some-other-name: it must hold")
    refused_folder = ImageConfig(root=str(tmp_path / "around"))
    with pytest.raises(ValueError, match="has one class folder, 'some-other-name': nothing is to be told apart"):
        load_data("folder", refused_folder)
    shutil.move(tmp_path / "around" / "some-other-name" / "train", tmp_path / "train")
    with pytest.raises(ValueError, match="has a folder 'test' and no folder 'train' beside it"):
        load_data("folder", ImageConfig(root=str(tmp_path / "around" / "some-other-name")))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("gone", "match"),
    [
        ("train/n00000102", r"3 classes \('n00000100', .*\) where 4 are published|names no class of the training"),
        ("train/n00000102/images/n00000102_3.png", "23 training images where 24 are published"),
        (
            "val/val_annotations.txt",
            "val_0.png' lies in no folder of a class, and no table such as val_annotations.txt",
        ),
        ("val", "has no folder 'val' with images and their classes|no test image"),
        ("val/images/val_2.png", r"cannot read .*val_2\.png|there is no .*val_2.png"),
        ("train", "no tiny-imagenet in"),
    ],
)
def test_tiny_imagenet_with_something_gone(gone, match, packed, tmp_path):
    root = tmp_path / "tiny"
    write_tiny_imagenet(root)
    (shutil.rmtree if (root / gone).is_dir() else os.unlink)(root / gone)
    shutil.rmtree(root / "test")
    refused("tiny-imagenet", zip_folder(root, tmp_path / "tiny.zip") if packed else root, match)


def test_classes_of_unequal_size(tmp_path):
    write_tiny_imagenet(tmp_path)
    images = tmp_path / "train" / "n00000101" / "images"
    (images / "n00000101_0.png").rename(tmp_path / "train" / "n00000102" / "images" / "more.png")
    refused("tiny-imagenet", tmp_path, "5 training images of class 'n00000101' where 6 are published")
    table = tmp_path / "val" / "val_annotations.txt"
    (tmp_path / "train" / "n00000102" / "images" / "more.png").rename(images / "n00000101_0.png")
    table.write_text(table.read_text().replace("val_1.png", "val_2.png"))
    refused("tiny-imagenet", tmp_path, r"names the file 'val_2\.png' twice")


def test_images_that_changed_their_class(tmp_path):
    """Every class is as large as it should be, and the images' own names say where they belong."""
    write_tiny_imagenet(tmp_path / "two")
    one, other = (tmp_path / "two" / "train" / name / "images" / f"{name}_0.png" for name in ("n00000100", "n00000102"))
    one.rename(other.parent / one.name)
    other.rename(one.parent / other.name)
    refused("tiny-imagenet", tmp_path / "two", "the image 'n00000102_0.png' lies in class 'n00000100'")
    write_tiny_imagenet(tmp_path / "all")
    one, other = (tmp_path / "all" / "train" / name for name in ("n00000100", "n00000102"))
    one.rename(tmp_path / "aside")
    other.rename(one)
    (tmp_path / "aside").rename(other)
    refused("tiny-imagenet", tmp_path / "all", "lies in class 'n00000100'")


def test_a_picture_of_another_size_is_none_of_theirs(tmp_path):
    """It would be scaled up in silence; published pictures of one size are all alike, those of ImageNet are not."""
    write_tiny_imagenet(tmp_path / "tiny")
    shutil.copytree(tmp_path / "tiny", tmp_path / "half")
    for part in ("train/n00000101/images/n00000101_3.png", "val/images/val_2.png"):
        write_image(tmp_path / "tiny" / part, random_images(1, 3, 32)[0])
        refused("tiny-imagenet", tmp_path / "tiny", r"cannot decode .*: it has 32×32 pixels where all .* have 64×64")
        shutil.copy(tmp_path / "half" / part, tmp_path / "tiny" / part)
    # Asked for at another size, the pictures are scaled, and held to what is published all the same.
    assert load_small("tiny-imagenet", tmp_path / "tiny", size=32).train.inputs.shape[1:] == (3, 32, 32)


def test_the_list_of_classes_is_that_of_the_folders(tmp_path):
    write_tiny_imagenet(tmp_path)
    table = tmp_path / "wnids.txt"
    whole = table.read_text()
    table.write_text(whole.replace("n00000102", "n00000999"))
    refused("tiny-imagenet", tmp_path, "the class 'n00000102', which wnids.txt does not list")
    table.write_text(whole + "\nn00000999")
    refused("tiny-imagenet", tmp_path, "wnids.txt lists the class 'n00000999', which no folder of training images has")
    table.unlink()
    load_small("tiny-imagenet", tmp_path)


SHUFFLED = [10 * ((7 * k + k // 10) % 10) + k % 10 for k in range(20)]  # of every class two


@pytest.mark.parametrize("rows", [range(20), range(80, 100), range(99, 79, -1), SHUFFLED])
def test_training_images_are_no_test_images(rows, tmp_path):
    """By its numbers such a copy is whole, and it would show the accuracy of training as that of the test."""
    import pyarrow.parquet

    write_hub(tmp_path, "cifar10")
    train, test = (next((tmp_path / "data").glob(f"{part}-*.parquet")) for part in ("train", "test"))
    table = pyarrow.parquet.read_table(train)
    pyarrow.parquet.write_table(table.take(list(rows)), test)
    refused(
        "cifar10", tmp_path, "of 20 test images that were looked at are among its training images; unpack it afresh"
    )


@pytest.mark.parametrize("python", [False, True])
@pytest.mark.parametrize("copied", ["data_batch_2", "test_batch"])
def test_a_batch_in_the_place_of_another(copied, python, tmp_path):
    """By its numbers such a copy is whole; a test batch of training images would flatter every network."""
    (write_cifar_python if python else write_cifar)(tmp_path, 10)
    ending = "" if python else ".bin"
    shutil.copy(tmp_path / f"data_batch_1{ending}", tmp_path / f"{copied}{ending}")
    refused("cifar10", tmp_path, f"has the same images in {copied}{ending} as in data_batch_1{ending}; unpack it")


def test_the_checksum_of_a_packed_tar_is_looked_at(tmp_path):
    """It stands behind the end of the archive, where no member is read any more."""
    write_cifar_python(tmp_path / "files", 10)
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(tmp_path / "files", "cifar-10-batches-py")
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    refused("cifar10", path, "cannot read the archive .*CRC check failed")


@pytest.mark.parametrize("python", [False, True])
def test_cifar_with_something_gone(python, tmp_path):
    write = write_cifar_python if python else write_cifar
    ending = "" if python else ".bin"
    write(tmp_path / "ten", 10)
    (tmp_path / "ten" / f"data_batch_3{ending}").unlink()
    refused("cifar10", tmp_path / "ten", f"lacks data_batch_3{ending}; unpack it afresh")
    write(tmp_path / "class", 100)
    file = tmp_path / "class" / f"test{ending}"
    if python:
        batch = pickle.loads(file.read_bytes(), encoding="latin1")
        batch["fine_labels"] = [k or 1 for k in batch["fine_labels"]]
        file.write_bytes(pickle.dumps(batch))
    else:
        content = bytearray(file.read_bytes())
        content[1] = 1
        file.write_bytes(content)
    refused("cifar100", tmp_path / "class", r"no test image of class 0 \(1 classes lack\)")
    write(tmp_path / "cut", 10)
    file = tmp_path / "cut" / f"test_batch{ending}"
    file.write_bytes(file.read_bytes()[:-100])
    refused("cifar10", tmp_path / "cut", f"test_batch{ending}' is no CIFAR")


def test_tables_are_counted_before_they_are_decoded(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("datasets")
    write_hub(tmp_path, "cifar10")
    path = next((tmp_path / "data").glob("train*"))
    table = parquet.read_table(path)
    parquet.write_table(table.slice(0, 99), path)
    refused("cifar10", tmp_path, "no whole copy of cifar10: 99 training images where 100 are published")


def test_no_pickle_is_executed(tmp_path):
    """Whatever a pickle asks to be called is refused by its name, in every spelling of the language."""
    mark = tmp_path / "executed"

    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(mark),)

    class Built:
        def __reduce__(self):
            return eval, (f"__import__('os').mkdir({str(mark)!r})",)

    by_hand = b"c__builtin__\neval\n(S'1'\ntR."
    instance = b"(S'x'\nios\nmkdir\n."
    new_object = b"\x80\x02cposix\nmkdir\n)\x81."
    persistent = b"Psomething\n."
    extension = b"\x80\x02\x82\x01."
    reduced_array = b"cnumpy\nndarray\n(tR."
    contents = [pickle.dumps(x, protocol=k) for x in (Hostile(), Built(), {"data": Hostile()}) for k in (0, 2, 4, 5)]
    for content in (*contents, by_hand, instance, new_object, persistent, extension, reduced_array):
        with pytest.raises(ValueError, match=r"nothing in a data set is executed|which no array or list needs"):
            read_pickle(content)
        root = tmp_path / "cifar"
        shutil.rmtree(root, ignore_errors=True)
        write_cifar_python(root, 10)
        (root / "data_batch_2").write_bytes(content)
        refused("cifar10", root, "data_batch_2' is no CIFAR batch")
    assert not mark.exists()


def test_pickles_that_promise_much(tmp_path):
    """Memo slots, sizes and shapes that a reader would make room for before it looks."""
    huge = struct.pack("<Q", 1 << 40)
    array = pickle.dumps({"data": np.zeros((2, 2), np.uint8)}, protocol=2)
    wide = array.replace(b"K\x02K\x02", b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f")
    assert wide != array
    for content in (
        b"\x80\x04\x8e" + huge + b".", b"\x80\x05\x96" + huge + b".", wide,
        b"\x80\x04\x8b\xff\xff\xff\x7f.", b"", b".", b"\x80", b"(" * 5000, b"]" * 5000 + b"a" * 4999, b"h\x07.",
    ):  # fmt: skip
        with pytest.raises(ValueError, match="no pickle of plain values"):
            read_pickle(content)
    assert read_pickle(b"\x80\x04]r\xff\xff\xff\xff.") == []  # a memo is a dictionary here, not a table
    with pytest.raises(ValueError, match="promises"):
        read_pickle(wide)
    with pytest.raises(ValueError, match="does not hold unsigned bytes"):
        read_pickle(pickle.dumps({"data": np.zeros((2, 2))}, protocol=2))
    turned = np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    for protocol in range(1, 6):
        assert np.array_equal(read_pickle(pickle.dumps({"a": turned}, protocol=protocol))["a"], turned)


def _zip(path: Path, *members: tuple[zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for info, content in members:
            archive.writestr(info, content, compress_type=zipfile.ZIP_DEFLATED)
    return path


def _named(name: str, mode: int = 0o100644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/passwd", "a/../../b.png", "..\\b.png", "C:/b.png", "train/../../b.png"]
)
def test_names_in_archives_that_lead_out(name, tmp_path):
    refused("tiny-imagenet", _zip(tmp_path / "a.zip", (_named(name), b"x")), "the name .* in it leads out of it")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
    refused("tiny-imagenet", tmp_path / "a.tar", "the name .* in it leads out of it")


def test_names_of_another_system(tmp_path):
    """Some tools of Windows write backslashes into zips, which lead nowhere, but are no folders elsewhere."""
    archive = _zip(tmp_path / "a.zip", (_named("train\\a\\b.png"), b"x"))
    refused("tiny-imagenet", archive, "has a backslash, which is no folder here; unpack it, give the folder")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_no_publisher_makes(tmp_path):
    link = _named("train/a.png", 0o120777)
    refused("tiny-imagenet", _zip(tmp_path / "link.zip", (link, b"/etc/passwd")), "is a link or no regular file")
    twice = (_named("a"), b"1"), (_named("a"), b"2")
    refused("tiny-imagenet", _zip(tmp_path / "twice.zip", *twice), "holds two files 'a'")
    both = (_named("a"), b"1"), (_named("a/b"), b"2")
    refused("tiny-imagenet", _zip(tmp_path / "both.zip", *both), "as a file and as a folder")
    with zipfile.ZipFile(tmp_path / "other.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a", b"1")
    refused("tiny-imagenet", tmp_path / "other.zip", "packed by method 14; stored and deflated are read")
    content = bytearray(_zip(tmp_path / "locked.zip", (_named("a"), b"1")).read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(content)
    refused("tiny-imagenet", tmp_path / "locked.zip", "'a' in it is encrypted")
    (tmp_path / "none.zip").write_bytes(b"no archive")
    refused("tiny-imagenet", tmp_path / "none.zip", "cannot read the archive .*none.zip")
    (tmp_path / "none.tar.gz").write_bytes(b"no archive")
    refused("cifar10", tmp_path / "none.tar.gz", "cannot read the archive .*none.tar.gz")
    with tarfile.open(tmp_path / "link.tar", "w") as archive:
        member = tarfile.TarInfo("a")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    refused("cifar10", tmp_path / "link.tar", "is a link or no regular file")


def test_archives_that_unpack_to_much(tmp_path):
    """A file of zeros, files that share their bytes, and a tar of which most is a promise."""
    refused("tiny-imagenet", _zip(tmp_path / "zeros.zip", (_named("a"), bytes(1 << 22))), "promises 4194304 bytes of")
    noise = np.random.default_rng(0).bytes(1 << 16)
    content = _zip(tmp_path / "shared.zip", *((_named(f"{k:03d}"), noise) for k in range(3))).read_bytes()
    first = content.index(b"PK\x01\x02")
    directory = bytearray(content[first:])
    for k in range(3):  # every member now begins where the first one does
        struct.pack_into("<I", directory, k * (46 + 3) + 42, 0)
    packed = struct.unpack_from("<I", directory, 20)[0]
    local = content[: 30 + 3 + packed]
    struct.pack_into("<I", directory, directory.rindex(b"PK\x05\x06") + 16, len(local))
    (tmp_path / "shared.zip").write_bytes(local + directory)
    refused("tiny-imagenet", tmp_path / "shared.zip", "promise .* packed and .* unpacked ones|Overlapped")
    with tarfile.open(tmp_path / "zeros.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("a")
        member.size = 1 << 24
        archive.addfile(member, io.BytesIO(bytes(1 << 24)))
    refused("cifar10", tmp_path / "zeros.tar.gz", "it unpacks to more than")


def test_a_damaged_member_is_named(tmp_path):
    root = tmp_path / "tiny"
    write_tiny_imagenet(root)
    path = zip_folder(root, tmp_path / "tiny.zip")
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("val/images/val_2.png").header_offset + 200
    content = bytearray(path.read_bytes())
    content[start : start + 50] = bytes(50)
    path.write_bytes(content)
    refused("tiny-imagenet", path, r"cannot (read|decode) .*tiny\.zip/val/images/val_2\.png'")


def test_other_files_are_no_data_set(tmp_path):
    (tmp_path / "notes.txt").write_text("no data")
    refused("cifar10", tmp_path / "notes.txt", r"is no folder and no archive \(\.zip, ")
    write_image_folder(tmp_path / "own")
    refused("cifar10", tmp_path / "own", "no cifar10 in .*, which holds class0, class1, class2: it must hold")


@pytest.mark.parametrize("words", [("train", "--data", "tiny-imagenet"), ("figures", "fig1", "--scale", "paper")])
def test_missing_data_is_told_before_torch_is_loaded(words, tmp_path):
    """So it takes a second; and nothing is left where the runs would have been."""
    code = (
        "import sys; from neuralmechanics.cli.entry import main\n"
        f"status = main([*{words!r}, '--out', {str(tmp_path / 'run')!r}])\n"
        "print(status, 'torch' in sys.modules, 'datasets' in sys.modules)"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "NEURALMECHANICS_DATA": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "2 False False"
    assert "tiny-imagenet is not here: put train/<class>/images" in done.stderr
    assert not (tmp_path / "run").exists()
