"""Pictures decoded without trust: known formats, bounded pixels, every failure one line that names the picture."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from neuralmechanics.experiments.data.readers.tree import Place

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset(
    (".jpeg", ".jpg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".pbm", ".tif", ".tiff")
)
# Pictures too, which are not read: to leave them out without a word would be to train on something else.
UNREAD = frozenset((".avif", ".heic", ".heif", ".jp2", ".jxl", ".tga", ".svg", ".exr", ".hdr", ".psd"))

_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "PPM", "TIFF")
# Photographs of 64 million pixels are read; decoded they take 200 MB.
_MOST_PIXELS = 64 << 20
# Eight bits a channel. Of more bits Pillow keeps what exceeds 255 as 255: a picture of sixteen would be white.
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
# So many zeros at the end of a compressed picture are none of its data; no more bytes than these are looked through.
_ZEROS, _LOOKED_THROUGH = bytes(64), 256 << 20
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


@dataclass(frozen=True)
class Cut:
    """How a picture becomes `[channels, size, size]` bytes: shorter side scaled to margin·size, then the centre.

    `published` is the number of pixels in each direction of every picture of the data set, None where they differ: a
    picture of another size is none of its pictures.
    """

    channels: int
    size: int
    margin: float = 1.0
    published: int | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what comes out."""
        return self.channels, self.size, self.size

    @property
    def key(self) -> str:
        """What tells arrays that were cut in this way from others."""
        return f"{self.size}-{self.channels}-{self.margin:.3f}-{self.published or 'any'}"


def picture_file(place: Place, cut: Cut) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The picture in a file, as `pixels` gives it; `ValueError` names the file where it cannot be decoded."""
    with place.open() as file:
        return _decoded(file, repr(str(place)), cut)


def picture_bytes(content: bytes, name: str, cut: Cut) -> np.ndarray[Any, Any]:
    """The picture that the bytes of a file hold; `name` is what an error calls it."""
    return _decoded(BytesIO(content), name, cut)


def pixels(image: Image, cut: Cut) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """`image` as bytes of `cut.shape`."""
    from PIL import Image as Pillow

    channels, size, _ = cut.shape
    _require_plain(image)
    image = image.convert("RGB" if channels == 3 else "L")
    if image.size != (size, size):
        width, height = _scaled(image.size, cut)
        image = image.resize((width, height), Pillow.Resampling.BILINEAR)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)


def _require_plain(image: Image) -> None:
    """`ValueError` for pixels that have no three bytes: of more than 8 bits, or that show what lies behind them."""
    if image.mode not in _MODES:
        raise ValueError(f"its pixels are of Pillow's mode {image.mode!r}; save it as RGB or grey of 8 bits a channel")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        least = int(np.asarray(image.convert("RGBA"))[..., 3].min())
        if least < 255:
            raise ValueError("it has transparent pixels, which have no colour of their own; put it on a background")


def _decoded(file: BinaryIO, name: str, cut: Cut) -> np.ndarray[Any, Any]:
    try:
        from PIL import Image as Pillow
    except ImportError:
        raise ValueError("decoding images needs Pillow: pip install 'neuralmechanics[data]'") from None
    try:
        with warnings.catch_warnings():
            # What Pillow warns of, such as too many pixels or a broken comment, is refused here or does not matter.
            warnings.simplefilter("ignore")
            _require_written(file)
            # By name, because Pillow knows formats that start other programs, as EPS does.
            with Pillow.open(file, formats=_FORMATS) as image:
                _require_bounded(image.size, cut)
                return pixels(image, cut)
    except (*_DECODER_ERRORS, Pillow.DecompressionBombError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"cannot decode {name}: {reason}") from None


def _require_written(file: BinaryIO) -> None:
    """`ValueError` for a JPEG or WebP with zeros where its end should be, which decoders take for grey without a word.

    A JPEG may be followed by zeros: its end is marked, and no compressed data hold the bytes of a mark.
    """
    head = file.read(12)
    jpeg, webp = head.startswith(b"\xff\xd8"), head.startswith(b"RIFF") and head.endswith(b"WEBP")
    size = file.seek(0, os.SEEK_END)
    if (jpeg or webp) and size > len(_ZEROS):
        file.seek(size - len(_ZEROS))
        if file.read() == _ZEROS:
            file.seek(0)
            content = file.read(_LOOKED_THROUGH)
            if webp or content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda"):
                raise ValueError("it ends in zeros, as a file does whose rest was never written; get it afresh")
    file.seek(0)


def _scaled(found: tuple[int, int], cut: Cut) -> tuple[int, int]:
    scale = cut.margin * cut.size / min(found)
    # Rounding may leave a side one pixel short of what is cut out.
    width, height = (max(cut.size, round(side * scale)) for side in found)
    return width, height


def _require_bounded(found: tuple[int, int], cut: Cut) -> None:
    if min(found) < 1 or found[0] * found[1] > _MOST_PIXELS:
        raise ValueError(f"it has {found[0]}×{found[1]} pixels, more than {_MOST_PIXELS}")
    if cut.published is not None and found != (cut.published, cut.published):
        published = f"{cut.published}×{cut.published}"
        raise ValueError(f"it has {found[0]}×{found[1]} pixels where all published ones have {published}")
    width, height = _scaled(found, cut)
    if width * height > _MOST_PIXELS:
        raise ValueError(f"it has {found[0]}×{found[1]} pixels, which is too narrow to be scaled to {cut.size}")
