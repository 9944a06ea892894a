"""Pictures in and out, safely: known formats only, declared sizes checked before anything is decoded."""

import contextlib
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, UnidentifiedImageError

from diverse3d._errors import InputError

MAX_PIXELS = 100_000_000
MAX_SIDE = 2048

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
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
# What Pillow's readers raise on damaged files.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    LookupError,
    ArithmeticError,
    struct.error,
    zlib.error,
)


def read_photo(
    path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS, max_side: int = MAX_SIDE
) -> UInt8[np.ndarray, "height width 3"]:
    """Reads a picture as upright sRGB.

    PNG, JPEG, WebP, BMP, TIFF and GIF are read; of several frames, the first. The orientation tag is honoured
    and every other piece of metadata, colour profiles included, is ignored. Transparency is laid over white.
    A picture whose longer side exceeds `max_side` pixels is scaled down to it.

    Raises `InputError` when there is no such file, it is no picture, is damaged, or declares more than
    `max_pixels`.
    """
    image = _flatten(_read(Path(path), max_pixels), "white", path)
    longest = max(image.size)
    if longest > max_side:
        size = tuple(max(round(side * max_side / longest), 1) for side in image.size)
        image = image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    return np.array(image)


def read_mask(
    path: str | os.PathLike[str], shape_hw: tuple[int, int], *, max_pixels: int = MAX_PIXELS
) -> Bool[np.ndarray, "height width"]:
    """Reads which pixels of a picture of `shape_hw` are hidden: those where the mask is white (128 or more).

    A mask of another size is fitted by nearest neighbours if its aspect agrees within 1 %. Transparent parts
    hide nothing. Raises `InputError` as `read_photo` does, and when the aspect differs.
    """
    values = np.array(_flatten(_read(Path(path), max_pixels), "black", path).convert("L"))
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
    path = Path(path)
    pixels = array.astype(np.uint8) * np.uint8(255) if array.dtype == np.bool_ else array
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            Image.fromarray(np.ascontiguousarray(pixels)).save(aside, format="PNG", compress_level=6)
            aside.replace(path)
        finally:
            with contextlib.suppress(OSError):
                aside.unlink()
    except OSError as error:
        raise InputError(f"Can't write {path}: {error.strerror or error}.") from error


def _read(path: Path, max_pixels: int) -> Image.Image:
    """Decodes the first frame and turns it upright; size and format are checked before that."""
    if not path.exists():
        raise InputError(f"There is no file {path}.")
    if not path.is_file():
        raise InputError(f"{path} is not a file: give the path of one picture.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own size limit only warns; ours, below, decides
            with Image.open(path, formats=_FORMATS) as image:
                if image.width * image.height > max_pixels:
                    raise _too_large(path, max_pixels)
                image.load()
                return _upright(image)
    except Image.DecompressionBombError:
        raise _too_large(path, max_pixels) from None
    except InputError:  # a ValueError, too
        raise
    except UnidentifiedImageError:
        raise InputError(f"{path} is not a picture that can be read: give a {', '.join(_FORMATS)} file.") from None
    except PermissionError:
        raise InputError(f"{path} may not be read: check its permissions.") from None
    except _DAMAGED as error:
        raise InputError(f"The picture {path} is damaged or truncated ({error}): give an intact file.") from error


def _too_large(path: Path, max_pixels: int) -> InputError:
    return InputError(
        f"The picture {path} declares more than {max_pixels / 1e6:.0f} million pixels: scale it down first."
    )


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except _DAMAGED:  # unreadable metadata is no reason to refuse readable pixels
        orientation = 1
    turn = _UPRIGHT_BY_ORIENTATION.get(orientation) if isinstance(orientation, int) else None
    return image.copy() if turn is None else image.transpose(turn)


def _flatten(image: Image.Image, background: str, path: str | os.PathLike[str]) -> Image.Image:
    """Any pixel type as opaque 8-bit RGB."""
    if image.mode == "F":
        raise InputError(f"The picture {path} has floating-point pixels: save it with 8 or 16 bits a channel.")
    if image.mode.startswith("I"):  # 16-bit grey (or 32-bit words that hold it): 65535 is white
        grey = np.clip(np.asarray(image).astype(np.int32), 0, 65535)
        image = Image.fromarray(((grey + 128) // 257).astype(np.uint8))
    try:
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
        return image.convert("RGB")
    except ValueError:
        raise InputError(f"The picture {path} has pixels of type {image.mode}: save it as RGB.") from None
