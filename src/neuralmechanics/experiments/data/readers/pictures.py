"""Pictures decoded without trust: known formats, bounded pixels, every failure one line that names the picture."""

from __future__ import annotations

import struct
import warnings
import zlib
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from neuralmechanics.experiments.data.readers.tree import Place

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset((".jpeg", ".jpg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".tif", ".tiff"))

_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "PPM", "TIFF")
# Photographs of 64 million pixels are read; decoded they take 200 MB.
_MOST_PIXELS = 64 << 20
_DECODER_ERRORS = (
    *(
        OSError,
        SyntaxError,
        ValueError,
        TypeError,
        LookupError,
        EOFError,
        ArithmeticError,
        AttributeError,
        AssertionError,
    ),
    *(struct.error, zlib.error, NotImplementedError, RuntimeError, MemoryError),
)


def picture_file(place: Place, size: int, channels: int, margin: float) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The picture in a file, as `pixels` gives it; `ValueError` names the file where it cannot be decoded."""
    with place.open() as file:
        return _decoded(file, repr(str(place)), size, channels, margin)


def picture_bytes(content: bytes, name: str, size: int, channels: int, margin: float) -> np.ndarray[Any, Any]:
    """The picture that the bytes of a file hold; `name` is what an error calls it."""
    return _decoded(BytesIO(content), name, size, channels, margin)


def pixels(image: Image, size: int, channels: int, margin: float) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """`[channels, size, size]` bytes: shorter side scaled to margin·size, then the centre."""
    from PIL import Image as Pillow

    image = image.convert("RGB" if channels == 3 else "L")
    if image.size != (size, size):
        width, height = _scaled(image.size, size, margin)
        image = image.resize((width, height), Pillow.Resampling.BILINEAR)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)


def _decoded(file: BinaryIO, name: str, size: int, channels: int, margin: float) -> np.ndarray[Any, Any]:
    try:
        from PIL import Image as Pillow
    except ImportError:
        raise ValueError("decoding images needs Pillow: pip install 'neuralmechanics[data]'") from None
    try:
        with warnings.catch_warnings():
            # What Pillow warns of, such as too many pixels or a broken comment, is refused here or does not matter.
            warnings.simplefilter("ignore")
            # By name, because Pillow knows formats that start other programs, as EPS does.
            with Pillow.open(file, formats=_FORMATS) as image:
                _require_bounded(image.size, size, margin)
                return pixels(image, size, channels, margin)
    except (*_DECODER_ERRORS, Pillow.DecompressionBombError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"cannot decode {name}: {reason}") from None


def _scaled(found: tuple[int, int], size: int, margin: float) -> tuple[int, int]:
    scale = margin * size / min(found)
    # Rounding may leave a side one pixel short of what is cut out.
    width, height = (max(size, round(side * scale)) for side in found)
    return width, height


def _require_bounded(found: tuple[int, int], size: int, margin: float) -> None:
    if min(found) < 1 or found[0] * found[1] > _MOST_PIXELS:
        raise ValueError(f"it has {found[0]}×{found[1]} pixels, more than {_MOST_PIXELS}")
    width, height = _scaled(found, size, margin)
    if width * height > _MOST_PIXELS:
        raise ValueError(f"it has {found[0]}×{found[1]} pixels, which is too narrow to be scaled to {size}")
