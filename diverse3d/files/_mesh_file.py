"""Mesh files → vertices in the file's own order, and what the file says of their visibility.

Triangles are counted and passed over, since a mesh in the head's topology has the head's own; materials, textures and
anything in other files are never looked at. PLY is read in `_ply`, glTF in `_gltf`, OBJ and OFF here.
"""

from array import array
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ._limits import Limits, read_bytes

_VISIBLE_NAMES, _HIDDEN_NAMES = ("visible", "visibility"), ("hidden", "occluded", "mask")

_OFF_NAMES = (b"OFF", b"COFF", b"NOFF", b"CNOFF", b"STOFF")


class MeshFile(NamedTuple):
    """What is read of a mesh file."""

    vertices: np.ndarray
    """float64 [V, 3], in the file's unit and order."""
    visible: np.ndarray | None
    """bool [V], where the file says which vertices are visible or hidden."""
    faces: int
    """How many triangles or polygons the file holds."""


class Damaged(Exception):
    """A mesh file is not what it says to be; the message ends a sentence about the file."""


def first_mark(names: Iterable[str]) -> str | None:
    """The first name under which numbers say which vertices are visible or hidden."""
    return next((name for name in names if name.lower().lstrip("_") in _VISIBLE_NAMES + _HIDDEN_NAMES), None)


def visible_by(name: str, values: np.ndarray) -> np.ndarray:
    """What the numbers under such a name say: bool, true where visible."""
    return (values > 0.5) == (name.lower().lstrip("_") in _VISIBLE_NAMES)


def read_obj(path: Path, limits: Limits) -> MeshFile:
    """Vertices of an OBJ file, in the order of its `v` lines."""
    values, faces = array("d"), 0
    for line in lines_of(read_bytes(path, "text_bytes", limits), path, limits):
        word = line.split(None, 1)[0]
        if word == b"v":
            values.extend(row_of_numbers(line.split(None, 4)[1:4], 3))
        elif word == b"f":
            faces += 1
        if max(len(values) // 3, faces) > limits.mesh_elements:
            raise limits.exceeded("mesh_elements", f"{path} has more vertices or triangles")
    return MeshFile(np.array(values).reshape(-1, 3), None, faces)


def read_off(path: Path, limits: Limits) -> MeshFile:
    """Vertices of an OFF file."""
    lines = (line.split(b"#")[0] for line in lines_of(read_bytes(path, "text_bytes", limits), path, limits))
    rows = (words for line in lines if (words := line.split()))
    first = next(rows, [b""])
    if first[0] not in _OFF_NAMES:
        raise Damaged("does not start as an OFF file does")
    counts = first[1:] or next(rows, [])
    if len(counts) < 2 or not all(count.isdigit() and len(count) < 19 for count in counts[:2]):
        raise Damaged("does not say how many vertices and triangles it has")
    vertices, faces = int(counts[0]), int(counts[1])
    if max(vertices, faces) > limits.mesh_elements:
        raise limits.exceeded("mesh_elements", f"{path} declares more vertices or triangles")
    values = array("d")
    for _ in range(vertices):
        values.extend(row_of_numbers(next(rows, [])[:3], 3))
    for _ in range(faces):
        row = next(rows, [])
        if not row or not row[0].isdigit() or len(row[0]) > 9 or len(row) < 1 + int(row[0]):
            raise Damaged("ends before the triangles that it declares, or has one without its corners")
    return MeshFile(np.array(values).reshape(-1, 3), None, faces)


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
