"""Registered meshes of a folder: vertices alone, from PLY, OBJ and numpy files, without trusting what they declare."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..._errors import InputError
from ._read import ImportLimits, read_arrays

MAX_MESHES = 5000
"""More meshes than these are thinned evenly."""

MAX_MESH_BYTES = 64 << 20
"""A mesh file larger than this is refused."""

_SUFFIXES = (".ply", ".obj", ".npy")
_SCALARS = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip


def read_meshes(folder: Path, vertices: int, limits: ImportLimits | None = None) -> tuple[np.ndarray, int]:
    """Vertices [N, V, 3] (float32, the files' unit) of the registered meshes below a folder; and how many there are.

    CoMA's layout is subject / expression / frame.ply; any depth will do, of .ply and .obj files with one mesh each and
    .npy files with one or many. Of more than `MAX_MESHES`, as many are taken at even distances. Raises `InputError` for
    a mesh with another number of vertices.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not files:
        raise InputError(f"{folder} holds no meshes ({', '.join(_SUFFIXES)}).")
    packed = [path for path in files if path.suffix.lower() == ".npy"]
    single = [path for path in files if path.suffix.lower() != ".npy"]
    total = len(single)
    arrays = []
    for path in packed:
        array = read_arrays(path, limits=limits).arrays.get("")
        array = array[None] if array is not None and array.ndim == 2 else array
        if array is None or array.shape[1:] != (vertices, 3):
            raise InputError(
                f"{path} holds no meshes of {vertices} vertices; an array [meshes, {vertices}, 3] is needed."
            )
        arrays.append(_sound(array[_evenly(len(array), MAX_MESHES)], path))
        total += len(array)
    if single:
        chosen = [single[i] for i in _evenly(len(single), MAX_MESHES)]
        arrays.append(np.stack(list(_each(chosen, vertices))))
    meshes = np.concatenate(arrays)
    return meshes[_evenly(len(meshes), MAX_MESHES)], total


def _evenly(count: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _each(paths: list[Path], vertices: int) -> Iterator[np.ndarray]:
    for path in paths:
        if path.stat().st_size > MAX_MESH_BYTES:
            raise InputError(f"{path} is larger than {MAX_MESH_BYTES >> 20} MiB; no mesh of a head is.")
        data = path.read_bytes()
        points = _ply(data, path) if path.suffix.lower() == ".ply" else _obj(data, path)
        if points.shape != (vertices, 3):
            raise InputError(
                f"{path} has {len(points)} vertices, the head {vertices}: the meshes must be in its topology."
            )
        yield _sound(points, path)


def _sound(points: np.ndarray, path: Path) -> np.ndarray:
    if points.dtype.kind not in "fiu" or not np.isfinite(points).all():
        raise InputError(f"{path} holds vertices that are not finite.")
    return points.astype(np.float32)


def _obj(data: bytes, path: Path) -> np.ndarray:
    rows = [line.split()[1:4] for line in data.splitlines() if line.startswith(b"v ")]
    try:
        return np.array(rows, np.float64).reshape(-1, 3)
    except ValueError:
        raise InputError(f"{path} has a vertex that is not three numbers.") from None


def _ply(data: bytes, path: Path) -> np.ndarray:
    """x, y, z of a PLY file's vertices, which must come first and hold plain numbers."""
    end = data.find(b"end_header", 0, 65536)
    start = data.find(b"\n", end) + 1
    if not data.startswith(b"ply") or end < 0 or start == 0:
        raise InputError(f"{path} is no PLY file.")
    lines = [line.split() for line in data[:end].decode("latin-1").splitlines()]
    form = next((line[1] for line in lines if line[:1] == ["format"] and len(line) > 1), "")
    elements = [number for number, line in enumerate(lines) if line[:1] == ["element"]]
    if form not in ("ascii", "binary_little_endian", "binary_big_endian") or not elements:
        raise InputError(f"{path} is a PLY file without a format or elements.")
    first, last = elements[0], elements[1] if len(elements) > 1 else len(lines)
    properties = [line for line in lines[first + 1 : last] if line[:1] == ["property"]]
    named = lines[first][1:2] == ["vertex"] and len(lines[first]) == 3 and lines[first][2].isdigit()
    if not named or any(len(line) != 3 or line[1] not in _SCALARS for line in properties):
        raise InputError(f"{path} is a PLY file whose vertices don't come first or are no plain numbers.")
    names = [line[2] for line in properties]
    count = int(lines[first][2])
    if len(set(names)) != len(names) or not {"x", "y", "z"} <= set(names):
        raise InputError(f"{path} is a PLY file whose vertices have no x, y and z.")
    if form == "ascii":
        rows = data[start:].split(b"\n", count)[:count]
        columns = [names.index(axis) for axis in "xyz"]
        try:
            return np.array([[float(row.split()[column]) for column in columns] for row in rows]).reshape(-1, 3)
        except (ValueError, IndexError):
            raise InputError(f"{path} has a vertex that is not three numbers.") from None
    order = "<" if form == "binary_little_endian" else ">"
    record = np.dtype([(line[2], order + _SCALARS[line[1]]) for line in properties])
    if count * record.itemsize > len(data) - start:
        raise InputError(f"{path} is cut short: it declares {count} vertices and holds fewer.")
    table = np.frombuffer(data, record, count, start)
    return np.stack([table[axis].astype(np.float64) for axis in "xyz"], axis=1)
