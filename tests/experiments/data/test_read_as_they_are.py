"""Pictures and folders that look like what they are not: read as they are, or refused by one line that names them."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuralmechanics.experiments import ImageConfig, load_data
from neuralmechanics.experiments.data import DataSet, Split

from ..formats import load_small, random_images, write_hub, write_image, write_imagenet, write_tiny_imagenet, zip_folder

RED = np.dstack([np.full((64, 64), 200, np.uint8), np.zeros((64, 64, 2), np.uint8)])
HALF = np.dstack([RED, np.repeat([[255], [0]], 32, axis=0).repeat(64, axis=1).astype(np.uint8)])
RAMP = np.linspace(0, 65535, 64 * 64).reshape(64, 64)


def write_classes(root: Path, parts: dict[str, tuple[str, ...]], each: int = 12) -> Path:
    for part, classes in parts.items():
        for name in classes:
            for index, image in enumerate(random_images(each, 3, 64)):
                write_image(root / part / name / f"{index}.png", image)
    return root


def own(root: Path, **options: int) -> DataSet:
    return load_data("folder", ImageConfig(root=str(root), **options))  # type: ignore[arg-type]


def refused(work: Callable[[], object], match: str) -> None:
    with pytest.raises(ValueError, match=match) as error:
        work()
    assert "\n" not in str(error.value)


PLAIN: dict[str, Callable[[Path], None]] = {
    "RGB": lambda path: Image.fromarray(RED).save(path / "0.png"),
    "opaque": lambda path: Image.fromarray(RED).convert("RGBA").save(path / "0.png"),
    "palette": lambda path: Image.fromarray(RED).quantize(2).save(path / "0.png"),
    "print": lambda path: Image.fromarray(RED).convert("CMYK").save(path / "0.jpg", quality=95),
    "PNG by the name of a JPEG": lambda path: Image.fromarray(RED).save(path / "0.JPEG", format="PNG"),
    "JPEG by a rare name": lambda path: Image.fromarray(RED).save(path / "0.jfif", format="JPEG", quality=95),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_a_picture_of_any_kind_has_its_colour(kind, tmp_path):
    write_classes(tmp_path, {"": ("a", "b")}, 11)
    (tmp_path / "a" / "0.png").unlink()
    PLAIN[kind](tmp_path / "a")
    found = own(tmp_path).train.inputs[0].double().mean((1, 2))
    assert np.allclose(found, [200, 0, 0], atol=2)


OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "sixteen bits": (lambda path: Image.fromarray(RAMP.astype(np.uint16)).save(path / "0.png"), "mode 'I;16'; save it"),
    "whole numbers": (lambda path: Image.fromarray(RAMP.astype(np.int32)).save(path / "0.tiff"), "mode 'I'; save it"),
    "fractions": (lambda path: Image.fromarray(RAMP.astype(np.float32)).save(path / "0.tiff"), "mode 'F'; save it"),
    "transparent": (lambda path: Image.fromarray(HALF).save(path / "0.png"), r"a.0\.png': it has transparent pixels"),
    "transparent colour": (
        lambda path: Image.fromarray(RED).quantize(2).save(path / "0.png", transparency=0), "has transparent pixels",
    ),
    "of another kind": (lambda path: (path / "0.AVIF").write_bytes(b"x"), "a picture of a kind that is not read"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_what_has_no_three_bytes_a_pixel_is_refused(kind, tmp_path):
    """Sixteen bits were read as white, transparent pixels in the colour that nobody sees."""
    write_classes(tmp_path, {"": ("a", "b")}, 11)
    save, match = OTHERS[kind]
    save(tmp_path / "a")
    refused(lambda: own(tmp_path), match)


@pytest.mark.parametrize("place", ["val/images/val_9.png", "val/extra.png", "train/extra.png"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_picture_of_no_class_is_not_left_out(place, packed, tmp_path):
    write_tiny_imagenet(tmp_path / "t")
    write_image(tmp_path / "t" / place, random_images(1, 3, 64)[0])
    root = zip_folder(tmp_path / "t", tmp_path / "t.zip") if packed else tmp_path / "t"
    refused(
        lambda: load_small("tiny-imagenet", root), "does not name 'val_9.png'|extra.png' lies in no folder of a class"
    )


def test_a_picture_beside_the_classes_of_imagenet(tmp_path):
    write_imagenet(tmp_path)
    write_image(tmp_path / "val" / "extra.png", random_images(1, 3, 64)[0])
    refused(lambda: load_small("imagenet", tmp_path, size=32), "extra.png' lies in no folder of a class")


CLASSES = ("cat", "dog", "eel")


def test_test_folders_that_would_be_passed_over(tmp_path):
    """A tenth of the training images was kept for testing in their place."""
    root = write_classes(tmp_path / "case", {"train": CLASSES, "val": ("Cat", "Dog", "Eel")})
    refused(lambda: own(root), "holds the class 'Cat', which no folder of training images has")
    root = write_classes(tmp_path / "flat", {"train": CLASSES, "val": ("",)})
    refused(lambda: own(root), "lies in no folder of a class, and no table such as val_annotations.txt")
    for one, other in (("val", "validation"), ("Train", "train"), ("VAL", "val")):
        root = write_classes(tmp_path / one, {"train": CLASSES, "val": CLASSES, one: CLASSES, other: CLASSES})
        refused(lambda root=root: own(root), f"has both '{one}' and '{other}'")
    # What is handed in for others to judge has no classes.
    root = write_classes(tmp_path / "unknown", {"train": CLASSES, "test": ("",)})
    assert len(own(root).test) == 3


def test_a_class_without_pictures(tmp_path):
    write_classes(tmp_path / "own", {"train": CLASSES})
    (tmp_path / "own" / "train" / "fox").mkdir()
    refused(lambda: own(tmp_path / "own"), "no training picture in the folder 'fox'")
    (tmp_path / "own" / "train" / "fox").rmdir()
    packed = zip_folder(tmp_path / "own", tmp_path / "own.zip")
    assert own(packed).classes == 3
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("train/fox/", "")
    refused(lambda: own(packed), "no training picture in the folder 'fox'")


def test_small_pictures_that_a_drive_keeps_are_no_pictures_of_a_class(tmp_path):
    write_classes(tmp_path, {"train": CLASSES})
    shutil.copytree(tmp_path / "train" / "cat", tmp_path / "train" / "cat" / "@eaDir")
    shutil.copytree(tmp_path / "train" / "cat", tmp_path / "train" / "@eaDir" / "cat")
    found = own(tmp_path)
    assert (len(found.train) + len(found.test), found.classes) == (36, 3)


@pytest.mark.parametrize("linked", [False, True])
def test_own_training_images_are_no_test_images(linked, tmp_path):
    write_classes(tmp_path, {"train": CLASSES})
    (os.symlink if linked else shutil.copytree)(tmp_path / "train", tmp_path / "val")
    refused(lambda: own(tmp_path), "tests on what it trains: 36 of 36 test images")


def test_a_picture_that_took_the_place_of_another_is_decoded_anew(tmp_path):
    """Of the same size, with the time of the first: what tools that unpack or copy leave."""
    write_classes(tmp_path, {"": ("a", "b")}, 11)
    (tmp_path / "a" / "0.png").unlink()
    path = tmp_path / "a" / "0.ppm"
    Image.fromarray(RED).save(path)
    assert own(tmp_path).train.inputs[0][:, 0, 0].tolist() == [200, 0, 0]
    state = path.stat()
    Image.fromarray(255 - RED).save(path)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_size == state.st_size
    assert own(tmp_path).train.inputs[0][:, 0, 0].tolist() == [55, 255, 255]


def test_a_part_of_what_lies_by_class_has_every_class(tmp_path):
    """The first images of such a set are of one class, and a network that trains on them is always right."""
    write_tiny_imagenet(tmp_path / "t")
    few = load_small("tiny-imagenet", tmp_path / "t", train_limit=8, test_limit=2)
    assert few.train.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    whole = load_small("tiny-imagenet", tmp_path / "t")
    assert (few.train.inputs == whole.train.inputs[::3]).all()
    mixed = load_data("digits")
    assert (mixed.limited(50, 10).train.inputs == mixed.train.inputs[:50]).all()
    # In blocks, though not in the order of their numbers.
    blocks = whole.train.labels.roll(7)
    assert set(Split(whole.train.inputs, blocks).first(8).labels.tolist()) == {0, 1, 2, 3}


def test_a_class_of_copies_is_no_published_one(tmp_path):
    write_tiny_imagenet(tmp_path)
    pictures = sorted((tmp_path / "train" / "n00000101").rglob("*.png"))
    for path in pictures[1:]:
        shutil.copy(pictures[0], path)
    refused(lambda: load_small("tiny-imagenet", tmp_path), "5 training images of class 1 are copies of others")


def test_a_file_of_tables_in_the_place_of_another(tmp_path):
    write_hub(tmp_path, "tiny-imagenet")
    file = next((tmp_path / "data").glob("train*"))
    shutil.copy(file, file.with_name("train-00001-of-00002.parquet"))
    refused(lambda: load_small("tiny-imagenet", tmp_path), "train-00001-of-00002.parquet' is a copy of '.*train-00000")


def test_tables_that_an_editor_has_touched(tmp_path):
    write_tiny_imagenet(tmp_path)
    table = tmp_path / "val" / "val_annotations.txt"
    expected = load_small("tiny-imagenet", tmp_path).test.labels.tolist()
    text = table.read_text()
    for edited in (text.replace("\n", "\r\n") + "\r\n  \t\r\n", text.replace("\t0\t", " \t0\t")):
        table.write_bytes(edited.encode())
        assert load_small("tiny-imagenet", tmp_path).test.labels.tolist() == expected


def test_a_class_that_is_a_link_to_another(tmp_path):
    """Its pictures would have two labels; a link to a folder that no other class has is a class like all."""
    write_classes(tmp_path, {"train": ("a", "b"), "val": ("a", "b"), "": ("kept",)}, 11)
    (tmp_path / "kept").rename(tmp_path / ".kept")
    (tmp_path / "train" / "c").symlink_to(tmp_path / ".kept")
    assert own(tmp_path).classes == 3
    (tmp_path / "train" / "d").symlink_to("a")
    refused(lambda: own(tmp_path), r"train/d' is a link to '.*train/a', whose pictures would be of two classes")
    (tmp_path / "train" / "d").unlink()
    (tmp_path / "train" / "d").symlink_to(tmp_path / ".kept")
    refused(lambda: own(tmp_path), r"train/d' is a link to '.*train/c'")


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_picture_whose_rest_was_never_written(kind, tmp_path):
    """Zeros in the place of its second half, which Pillow decodes as grey; zeros behind a whole JPEG do not matter."""
    write_classes(tmp_path, {"": ("a", "b")}, 11)
    picture = tmp_path / "a" / f"0.{kind.lower()}"
    (tmp_path / "a" / "0.png").unlink()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(picture, format=kind, quality=90)
    whole = picture.read_bytes()
    right = own(tmp_path).train.inputs[0]
    picture.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    refused(lambda: own(tmp_path), r"cannot decode '.*a/0\..*': it ends in zeros, as a file does whose rest was never")
    if kind == "JPEG":
        picture.write_bytes(whole + bytes(4096))
        assert (own(tmp_path).train.inputs[0] == right).all()
