"""OBJ, OFF and STL files."""

from array import array
from pathlib import Path

import numpy as np

from ._limits import Limits, read_bytes
from ._mesh import Damaged, Mesh, Polygons, lines_of, row_of_numbers, srgb_bytes

_OFF_NAMES = (b"OFF", b"COFF", b"NOFF", b"CNOFF", b"STOFF")

STL_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
"""A row of a binary STL file."""


def read_obj(path: Path, limits: Limits) -> Mesh:
    """Vertices of an OBJ file, in the order of its `v` lines, and its triangles."""
    values, colours, polygons = array("d"), array("d"), Polygons(path, limits)
    for line in lines_of(read_bytes(path, "text_bytes", limits), path, limits):
        word = line.split(None, 1)[0]
        if word == b"v":
            words = line.split(None, 7)[1:7]
            values.extend(row_of_numbers(words[:3], 3))
            if len(words) == 6:  # not of the format, but scanners write colours so
                colours.extend(row_of_numbers(words[3:], 3))
            if len(values) // 3 > limits.mesh_elements:
                raise limits.exceeded("mesh_elements", f"{path} has more vertices or triangles")
        elif word == b"f":
            polygons.add(_from_zero(corner, len(values) // 3) for corner in line.split()[1:])
    vertices = np.array(values).reshape(-1, 3)
    coloured = len(colours) == len(values)
    return Mesh(
        vertices,
        polygons.triangles(len(vertices)),
        colours=srgb_bytes(np.array(colours).reshape(-1, 3)) if coloured else None,
    )


def _from_zero(corner: bytes, vertices: int) -> int:
    """`place/texture/normal`, counted from one, or backwards from the last vertex → the place counted from zero."""
    number = int(corner.split(b"/", 1)[0])
    return vertices + number if number < 0 else number - 1


def read_off(path: Path, limits: Limits) -> Mesh:
    """Vertices and triangles of an OFF file."""
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
    values, polygons = array("d"), Polygons(path, limits)
    for _ in range(vertices):
        values.extend(row_of_numbers(next(rows, [])[:3], 3))
    for _ in range(faces):
        row = next(rows, [])
        if not row or not row[0].isdigit() or len(row[0]) > 9 or len(row) < 1 + int(row[0]):
            raise Damaged("ends before the triangles that it declares, or has one without its corners")
        polygons.add(row[1 : 1 + int(row[0])])
    return Mesh(np.array(values).reshape(-1, 3), polygons.triangles(vertices))


def read_stl(path: Path, limits: Limits) -> Mesh:
    """Triangles of an STL file, text or binary, and their vertices, those in one place taken for one."""
    vertices, faces = np.unique(read_stl_corners(path, limits).reshape(-1, 3), axis=0, return_inverse=True)
    return Mesh(vertices, faces.reshape(-1, 3).astype(np.int32))


def read_stl_corners(path: Path, limits: Limits) -> np.ndarray:
    """float64 [F, 3, 3]: the corners of an STL file's triangles as they stand there, text or binary."""
    data = read_bytes(path, "mesh_bytes", limits)
    count = int.from_bytes(data[80:84], "little")
    if len(data) >= 84 and len(data) == 84 + count * STL_TRIANGLE.itemsize:
        if count > limits.mesh_elements:
            raise limits.exceeded("mesh_elements", f"{path} declares more vertices or triangles")
        return np.frombuffer(data, STL_TRIANGLE, count, 84)["corners"].astype(np.float64)
    if not data.lstrip().startswith(b"solid"):
        raise Damaged("is no whole STL file")
    if len(data) > limits.text_bytes:
        raise limits.exceeded("text_bytes", f"{path} is text, and larger")
    values = array("d")
    for line in lines_of(data, path, limits):
        if line.startswith(b"vertex"):
            values.extend(row_of_numbers(line.split()[1:], 3))
            if len(values) // 9 > limits.mesh_elements:
                raise limits.exceeded("mesh_elements", f"{path} has more vertices or triangles")
    if len(values) % 9:
        raise Damaged("has a triangle without its corners")
    return np.array(values).reshape(-1, 3, 3)
