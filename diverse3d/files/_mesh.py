"""What is read of a mesh file: vertices in the file's own order, triangles, and which vertices it marks visible.

Of textures, one that the file holds itself is kept as it is there; nothing in other files is ever looked at.
"""

from array import array
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ._images import Picture
from ._limits import Limits

_VISIBLE_NAMES, _HIDDEN_NAMES = ("visible", "visibility"), ("hidden", "occluded", "mask")


class Mesh(NamedTuple):
    """What is read of a mesh file."""

    vertices: np.ndarray
    """float64 [V, 3], in the file's unit and order; of an STL file, which repeats them, each once."""
    faces: np.ndarray
    """int32 [F, 3]: triangles, and other polygons as fans of them."""
    visible: np.ndarray | None = None
    """float64 [V], 1 visible and 0 hidden, where the file says so; what else is there, its reader refuses."""
    colours: np.ndarray | None = None
    """uint8 [V, 3], sRGB, where the file gives its vertices colours."""
    uv: np.ndarray | None = None
    """float64 [V, 2], places in the picture, u to the right and v upwards."""
    picture: Picture | None = None
    """The texture that all of it wears, not yet decoded."""


class Damaged(Exception):
    """A mesh file is not what it says to be; the message ends a sentence about the file."""


def first_mark(names: Iterable[str]) -> str | None:
    """The first name under which numbers say which vertices are visible or hidden."""
    return next((name for name in names if name.lower().lstrip("_") in _VISIBLE_NAMES + _HIDDEN_NAMES), None)


def srgb_bytes(values: np.ndarray) -> np.ndarray | None:
    """Colours [V, 3] as bytes, given as bytes or from 0 to 1; None where they are neither."""
    values = np.asarray(values, np.float64)
    if not values.size or not np.isfinite(values).all() or values.min() < 0 or values.max() > 255:
        return None
    return np.round(values * (255.0 if values.max() <= 1.0 else 1.0)).astype(np.uint8)


def visible_by(name: str, values: np.ndarray) -> np.ndarray:
    """What the numbers under such a name say: 1 where visible, 0 where hidden; others stay neither."""
    numbers = np.asarray(values, np.float64)
    return numbers if name.lower().lstrip("_") in _VISIBLE_NAMES else 1.0 - numbers


class Polygons:
    """Polygons, added one by one or as a table, and the triangles that they make."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._corners, self._lengths = array("i"), array("i")
        self._tables: list[np.ndarray] = []
        self._path, self._limits, self._triangles = path, limits, 0

    def add(self, corners: Iterable[int | bytes]) -> None:
        """Add one polygon, its corners as numbers or words; raises `InputError` beyond the limit."""
        before = len(self._corners)
        try:
            self._corners.extend([int(corner) for corner in corners])
        except (ValueError, OverflowError):
            raise Damaged("has a triangle whose corners are no whole numbers, or too large ones") from None
        self._lengths.append(len(self._corners) - before)
        self._count(self._lengths[-1] - 2)

    def add_table(self, corners: np.ndarray) -> None:
        """Add polygons that are alike, whole numbers [P, corners]."""
        count = max(corners.shape[1] - 2, 0)
        self._count(len(corners) * count)
        fan = np.stack([np.zeros(count, int), np.arange(count) + 1, np.arange(count) + 2], axis=1)
        self._tables.append(corners[:, fan].reshape(-1, 3))

    def _count(self, triangles: int) -> None:
        self._triangles += max(triangles, 0)
        if self._triangles > self._limits.mesh_elements:
            raise self._limits.exceeded("mesh_elements", f"{self._path} has more vertices or triangles")

    def triangles(self, vertices: int) -> np.ndarray:
        """int32 [F, 3]; raises `Damaged` where a corner is none of so many vertices."""
        corners, lengths = np.array(self._corners, np.int32), np.array(self._lengths, np.int32)
        if len(lengths) and (lengths == 3).all():  # what most files hold; the general case takes much more memory
            tables = [corners.reshape(-1, 3), *self._tables]
        else:
            most = np.maximum(lengths - 2, 0)
            first = np.repeat(np.cumsum(lengths) - lengths, most)
            step = np.arange(len(first)) - np.repeat(np.cumsum(most) - most, most)
            tables = [corners[np.stack([first, first + step + 1, first + step + 2], axis=1)], *self._tables]
        for faces in tables:
            if faces.size and not (faces.min() >= 0 and faces.max() < vertices):
                raise Damaged("has a triangle whose corners are not among its vertices")
        return np.concatenate([faces.astype(np.int32, copy=False) for faces in tables])


def lines_of(data: bytes, path: Path, limits: Limits) -> Iterator[bytes]:
    """Lines that hold something, one by one: a list of them all could take many times the file's size."""
    stream = BytesIO(data)
    while line := stream.readline(limits.line_bytes + 1):
        if len(line) > limits.line_bytes:
            raise limits.exceeded("line_bytes", f"{path} has a line that is longer")
        if line := line.strip():
            yield line


def row_of_numbers(words: list[bytes], count: int) -> list[float]:
    """As many numbers as there should be words."""
    if len(words) == count:
        try:
            return [float(word) for word in words]
        except ValueError:
            pass
    raise Damaged("has a vertex that is no row of numbers, or ends before the vertices that it declares")
