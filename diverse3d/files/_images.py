"""Pictures in and out, safely: known formats only, declared sizes checked before anything is decoded."""

import dataclasses
import io
import os
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, UnidentifiedImageError, features

from .._errors import InputError
from ._limits import Limits, one_line, read_bytes
from ._whole import whole_file

MAX_SIDE = 2048
"""Longer side of a picture as it is processed."""

QUICK = 1
"""How hard a PNG picture is compressed: one that is written once is a tenth larger for a third of the time."""

_ALWAYS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
_FORMATS = (*_ALWAYS, "AVIF") if features.check("avif") else _ALWAYS
_ISO_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC"}
_MASK_THRESHOLD = 128
_ASPECT_TOLERANCE = 0.01
_ORIENTATION_TAG = 0x0112
_UPRIGHT_BY_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_JPEG_MAGIC, _JPEG_SCAN = b"\xff\xd8\xff", b"\xff\xda"
_JPEG_BARE = (0x00, 0x01, *range(0xD0, 0xDA), 0xFF)
"""Markers without a length, and what is none."""
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_ORIENTATION = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
_TILE_WIDTH_TAG, _TILE_HEIGHT_TAG = 322, 323


def read_photo(
    path: str | os.PathLike[str], *, max_pixels: int | None = None, max_side: int = MAX_SIDE
) -> UInt8[np.ndarray, "height width 3"]:
    """Reads a picture as upright sRGB.

    PNG, JPEG, WebP, BMP, TIFF and GIF are read, and AVIF where Pillow can; of several frames, the first. The
    orientation tag is honoured and every other piece of metadata, colour profiles included, is ignored. Transparency is
    laid over white. A picture whose longer side exceeds `max_side` pixels is scaled down to it.

    Raises `InputError` when there is no such file, it is no picture, is damaged, or is beyond the limits
    (docs/limits.md), of which `max_pixels` replaces one.
    """
    image = _read(Path(path), max_pixels, "white")
    longest = max(image.size)
    if longest > max_side:
        size = tuple(max(round(side * max_side / longest), 1) for side in image.size)
        image = image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    return np.array(image)


class Picture(NamedTuple):
    """A picture inside another file, not yet decoded."""

    data: bytes
    """Its file's content."""
    path: Path
    """The file that holds it."""

    def pixels(self) -> UInt8[np.ndarray, "height width 3"]:
        """As upright sRGB over white; raises `InputError` as `read_photo` does."""
        limits = Limits.from_environment()
        if len(self.data) > limits.image_bytes:
            raise limits.exceeded("image_bytes", f"The picture in {self.path} is larger")
        return np.asarray(_decoded(self.data, self.path, limits, "white"))


def read_mask(
    path: str | os.PathLike[str], shape_hw: tuple[int, int], *, max_pixels: int | None = None
) -> Bool[np.ndarray, "height width"]:
    """Reads which pixels of a picture of `shape_hw` are hidden: those where the mask is white (128 or more).

    A mask of another size is fitted by nearest neighbours if its aspect agrees within 1 %. Transparent parts
    hide nothing; where nothing opaque is white, as of red paint on a transparent picture, all that is painted hides.
    Raises `InputError` as `read_photo` does, and when the aspect differs.
    """
    painted = _read(Path(path), max_pixels, None)
    black = Image.new("RGBA", painted.size, "black")
    values = np.array(Image.alpha_composite(black, painted).convert("RGB").convert("L"))
    opaque = np.array(painted.getchannel("A"))
    if values.max() < _MASK_THRESHOLD and opaque.min() < _MASK_THRESHOLD:
        values = opaque
    (height, width), (to_height, to_width) = values.shape, shape_hw
    if abs(width * to_height / (height * to_width) - 1.0) > _ASPECT_TOLERANCE:
        raise InputError(
            f"The mask {path} is {width} × {height} pixels, which does not fit the picture's "
            f"{to_width} × {to_height}: give a mask of the picture's size or at least of its aspect."
        )
    rows = (2 * np.arange(to_height) + 1) * height // (2 * to_height)
    columns = (2 * np.arange(to_width) + 1) * width // (2 * to_width)
    return values[rows[:, None], columns[None, :]] >= _MASK_THRESHOLD


def write_png(
    path: str | os.PathLike[str],
    array: UInt8[np.ndarray, "height width 3"] | UInt8[np.ndarray, "height width"] | Bool[np.ndarray, "height width"],
) -> None:
    """Writes a picture: the same array always gives the same bytes, and the file appears whole or not at all.

    Boolean arrays become black and white. Raises `InputError` when the place can't be written.
    """
    pixels = array.astype(np.uint8) * np.uint8(255) if array.dtype == np.bool_ else array
    with whole_file(path) as aside:
        Image.fromarray(np.ascontiguousarray(pixels)).save(aside, format="PNG", compress_level=QUICK)


def _read(path: Path, max_pixels: int | None, background: str | None) -> Image.Image:
    """The first frame, upright, as 8-bit RGB over a background, or RGBA without one.

    Size and format are checked before it is decoded.
    """
    limits = Limits.from_environment()
    if max_pixels is not None:
        limits = dataclasses.replace(limits, image_pixels=max_pixels)
    return _decoded(read_bytes(path, "image_bytes", limits), path, limits, background)


def _decoded(data: bytes, path: Path, limits: Limits, background: str | None) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own size limit only warns; ours decides
            _check_before_opening(data, path, limits)
            with Image.open(io.BytesIO(_without_texts(data, path, limits)), formats=_FORMATS) as image:
                _check_before_decoding(image, data, path, limits)
                image.load()
                return _flatten(_upright(image), background, path)
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise _too_large(path, limits) from None
    except UnidentifiedImageError:
        kind = _ISO_BRANDS.get(data[8:12]) if data[4:8] == b"ftyp" else None
        if kind is not None:
            raise InputError(
                f"{path} is a {kind} picture, which can't be read here: save it as JPEG or PNG (a phone's or viewer's "
                "export does) and give that."
            ) from None
        raise InputError(f"{path} is not a picture that can be read: give a {', '.join(_ALWAYS)} file.") from None
    except MemoryError:
        raise InputError(f"The picture {path} needs more memory than there is: scale it down first.") from None
    except Exception as error:  # Pillow's parsers, on bytes that may be hostile, raise whatever they stumble over
        wrong = one_line(error)
        raise InputError(f"The picture {path} is damaged or truncated ({wrong}): give an intact file.") from None


def _check_before_opening(data: bytes, path: Path, limits: Limits) -> None:
    """What costs as soon as Pillow opens a file: a JPEG picture's segments, a WebP picture's canvas."""
    if data.startswith(_JPEG_MAGIC):
        _check_segments(data, path, limits)
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return
    kind, at = data[12:16], data[20:30].ljust(10, b"\0")
    if kind == b"VP8X":
        width, height = 1 + int.from_bytes(at[4:7], "little"), 1 + int.from_bytes(at[7:10], "little")
    elif kind == b"VP8L":
        packed = int.from_bytes(at[1:5], "little")
        width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    else:
        width, height = (int.from_bytes(at[i : i + 2], "little") & 0x3FFF for i in (6, 8))
    if width * height > limits.image_pixels:
        raise _too_large(path, limits)


def _check_segments(data: bytes, path: Path, limits: Limits) -> None:
    """Raise `InputError` where a JPEG holds more before its first scan than is sensible, padding and junk included."""
    at, steps = 2, 0
    while at + 4 <= len(data) and data[at : at + 2] != _JPEG_SCAN:
        steps += 1
        if steps > limits.image_parts:
            raise limits.exceeded("image_parts", f"The picture {path} has more")
        if data[at] == 0xFF and data[at + 1] not in _JPEG_BARE:
            at += 2 + max(int.from_bytes(data[at + 2 : at + 4], "big"), 2)
        else:
            at += 1


def _check_before_decoding(image: Image.Image, data: bytes, path: Path, limits: Limits) -> None:
    """Sizes that the header declares: the picture's, one tile's, and how often a JPEG picture is gone over."""
    if image.width * image.height > limits.image_pixels:
        raise _too_large(path, limits)
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        width, height = tags.get(_TILE_WIDTH_TAG, 1), tags.get(_TILE_HEIGHT_TAG, 1)
        if not (isinstance(width, int) and isinstance(height, int) and width * height <= limits.image_pixels):
            raise _too_large(path, limits)
    if data.count(b"\xff\xda") > limits.image_scans and image.format == "JPEG":
        raise limits.exceeded("image_scans", f"The picture {path} has more")


def _too_large(path: Path, limits: Limits) -> InputError:
    return limits.exceeded("image_pixels", f"The picture {path} is to be scaled down first: it declares more")


def _without_texts(data: bytes, path: Path, limits: Limits) -> bytes:
    """A PNG file without its texts and colour profile, which may unpack to more than the picture; others as they are.

    Texts that hold the orientation stay. Raises `InputError` for more chunks than the limit.
    """
    if not data.startswith(_PNG_MAGIC):
        return data
    kept, start, chunks = [_PNG_MAGIC], len(_PNG_MAGIC), 0
    while start < len(data):
        chunks += 1
        if chunks > limits.image_parts:
            raise limits.exceeded("image_parts", f"The picture {path} has more")
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        name = data[start + 4 : start + 8]
        text = name in (b"tEXt", b"zTXt", b"iTXt") and not data.startswith(_PNG_ORIENTATION, start + 8)
        if not text and name != b"iCCP":
            kept.append(data[start:end])
        start = end
    return b"".join(kept)


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # Pillow's parsers again: unreadable metadata is no reason to refuse readable pixels
        orientation = 1
    turn = _UPRIGHT_BY_ORIENTATION.get(orientation) if isinstance(orientation, int) else None
    return image.copy() if turn is None else image.transpose(turn)


def _flatten(image: Image.Image, background: str | None, path: str | os.PathLike[str]) -> Image.Image:
    """Any pixel type as opaque 8-bit RGB over the background, or as RGBA without one."""
    if image.mode == "F":
        raise InputError(f"The picture {path} has floating-point pixels: save it with 8 or 16 bits a channel.")
    if image.mode.startswith("I"):  # 16-bit grey (or 32-bit words that hold it): 65535 is white
        grey = np.clip(np.asarray(image).astype(np.int32), 0, 65535)
        image = Image.fromarray(((grey + 128) // 257).astype(np.uint8))
    try:
        if background is None:
            return image.convert("RGBA")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
        return image.convert("RGB")
    except ValueError:
        raise InputError(f"The picture {path} has pixels of type {image.mode}: save it as RGB.") from None
