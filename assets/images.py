"""Reads grey pictures (JPEG, PNG) strictly, brings them to a recipe's size, and writes those of imitations.

Only the two formats that X-ray collections are published in are decoded, never more pixels than an X-ray has, and nothing
is completed or guessed: a picture that is cut short or coloured is an error with a reason.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from assets.record import RecordError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from models.recipes import ImageRecipe

LARGEST_PIXELS = 64_000_000
"""Pixels of the largest picture that is decoded; the largest radiographs in use have about 20 million."""

COLOUR_TOLERANCE = 2
"""Counts by which red, green and blue of a grey picture may differ: rounding of JPEG's colour conversion."""

JPEG_QUALITY = 90

_FORMATS = ("JPEG", "PNG")
_PNG_SIGNATURE_BYTES = 8
_BLOCK_BYTES = 1 << 20
_LFS = b"version https://git-lfs.github.com/spec/"
_BROKEN = (OSError, EOFError, SyntaxError, ValueError, IndexError, struct.error, zlib.error)
"""What Pillow raises on damaged files."""


def read_grey(path: Path) -> NDArray[np.uint8]:
    """Read a picture as 8-bit grey, shape (height, width).

    Three equal colour channels count as grey. Deeper pictures keep the top 8 of the bits that they use, so that a 12-bit
    picture in a 16-bit file is not black.

    Raises:
        RecordError: reasons absent, unreadable, empty, lfs_pointer, not_an_image, too_large, truncated, checksum, colour,
            transparent, wrong_mode.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with path.open("rb") as stream:
            start = stream.read(len(_LFS))
            if not start:
                raise RecordError("empty", path, "is an empty file; download it again")
            if start == _LFS:
                raise RecordError(
                    "lfs_pointer", path, "is a git-lfs pointer and not the file itself; run `git lfs pull` where it came from"
                )
            stream.seek(0)
            try:
                picture = Image.open(stream, formats=_FORMATS)
            except UnidentifiedImageError as error:
                raise RecordError("not_an_image", path, "is neither a JPEG nor a PNG file; download it again") from error
            except Image.DecompressionBombError as error:
                raise _too_large(path) from error
            except _BROKEN as error:
                raise RecordError("truncated", path, "ends before its picture begins, or is damaged there; download it again") from error
            if picture.width * picture.height > LARGEST_PIXELS:
                raise _too_large(path)
            try:
                if picture.format == "PNG":
                    _check_sums(path, stream)
                picture.load()
            except _BROKEN as error:
                raise RecordError("truncated", path, f"cannot be decoded to its end ({error}); download it again") from error
            return _grey(path, picture)
    except FileNotFoundError as error:
        raise RecordError("absent", path, "there is no such picture") from error
    except OSError as error:
        raise RecordError("unreadable", path, f"cannot be read ({type(error).__name__}); check its permissions and its disk") from error


def fit(image: NDArray[np.uint8], recipe: ImageRecipe) -> NDArray[np.uint8]:
    """Bring a grey picture, shape (height, width), to the recipe's size.

    "stretch" resamples bicubically without keeping the aspect ratio. "cover" resamples bilinearly what the recipe's aspect
    ratio leaves of the picture around its centre: the shorter side scaled and the longer one cropped, as CheXpert's and
    Symile's networks take pictures, to within half a pixel. Both smooth before they reduce. A recipe may have contrast equalised then.

    Raises:
        RecordError: reason "constant": the result has a single value.
    """
    from PIL import Image

    height, width = image.shape
    size = (recipe.width, recipe.height)
    picture = Image.fromarray(image)
    if recipe.fit == "stretch":
        fitted = picture.resize(size, Image.Resampling.BICUBIC)
    else:
        scale = max(recipe.width / width, recipe.height / height)
        left, top = (width - recipe.width / scale) / 2, (height - recipe.height / scale) / 2
        box = (max(left, 0.0), max(top, 0.0), min(width - left, width), min(height - top, height))
        fitted = picture.resize(size, Image.Resampling.BILINEAR, box=box)
    result = np.asarray(fitted)
    if result.min() == result.max():
        raise RecordError("constant", Path(), "every pixel has the same value")
    return equalised(result) if recipe.equalise else result


def equalised(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture that is not of one value with contrast-limited adaptive histogram equalisation (Zuiderveld 1994), shape (height, width).

    As MoRE prepares X-rays: divided by their own maximum, tiles of an eighth of each side, clip limit 0.01; then 8 bits again.
    """
    from skimage.exposure import equalize_adapthist

    bright: NDArray[np.float64] = equalize_adapthist(image / image.max(), clip_limit=0.01)
    return (bright * 255).astype(np.uint8)


def write_grey(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an 8-bit grey picture, shape (height, width), as JPEG or PNG by the name's ending."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"quality": JPEG_QUALITY} if path.suffix == ".jpg" else {}
    Image.fromarray(image).save(path, **options)


def _check_sums(path: Path, stream: BinaryIO) -> None:
    """Hold the chunks of a PNG file that its picture is made of against their sums, which Pillow does for the first ones only."""
    place = stream.tell()
    stream.seek(_PNG_SIGNATURE_BYTES)
    kind = b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", stream.read(8))
        total = zlib.crc32(kind)
        while length:
            block = stream.read(min(length, _BLOCK_BYTES))
            if not block:
                raise EOFError("a chunk is cut short")
            total, length = zlib.crc32(block, total), length - len(block)
        stated = stream.read(4)
        if kind[:1].isupper() and stated != total.to_bytes(4, "big"):
            raise RecordError(
                "checksum", path, f"its part {kind.decode('latin-1')!r} does not add up: a bit has flipped; download it again"
            )
    stream.seek(place)


def _too_large(path: Path) -> RecordError:
    return RecordError("too_large", path, f"states more than {LARGEST_PIXELS:,} pixels, which no radiograph has; it is not decoded")


def _grey(path: Path, picture: Image) -> NDArray[np.uint8]:
    """A decoded picture as 8-bit grey."""
    if picture.mode == "L":
        return np.asarray(picture)
    if picture.mode in ("I", "I;16", "I;16B", "I;16L"):
        return _top_bits(path, np.asarray(picture))
    if picture.mode in ("P", "RGB"):
        return _one_channel(path, np.asarray(picture.convert("RGB")))
    if picture.mode in ("LA", "PA", "RGBA"):
        image_HWC = np.asarray(picture.convert("RGBA"))
        if image_HWC[..., 3].min() < 255:
            raise RecordError("transparent", path, "is transparent in places, so that its grey is not defined; use the original picture")
        return _one_channel(path, image_HWC[..., :3])
    raise RecordError("wrong_mode", path, f"has pixels of kind {picture.mode!r}; grey pictures of 8 or 16 bits are read")


def _top_bits(path: Path, image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.min() < 0:
        raise RecordError("wrong_mode", path, "has negative pixels; grey pictures of 8 or 16 bits are read")
    shift = max(int(image.max()).bit_length() - 8, 0)
    return (image >> shift).astype(np.uint8)


def _one_channel(path: Path, image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The grey of three channels that agree."""
    spread = int((image_HWC.max(axis=2) - image_HWC.min(axis=2)).max())
    if spread > COLOUR_TOLERANCE:
        raise RecordError("colour", path, f"is coloured (channels differ by up to {spread} of 255); a radiograph is grey")
    return np.ascontiguousarray(image_HWC[..., 1])
