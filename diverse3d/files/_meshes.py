"""One mesh of any format, and the registered meshes of a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .._errors import InputError
from ._gltf import read_gltf
from ._limits import Limits
from ._mesh import Damaged, Mesh
from ._npz import read_npy, read_npz
from ._obj import read_obj, read_off, read_stl, read_stl_corners
from ._ply import read_ply

_READERS = {
    ".ply": read_ply, ".obj": read_obj, ".off": read_off, ".glb": read_gltf, ".gltf": read_gltf, ".stl": read_stl,
}  # fmt: skip

MESH_SUFFIXES = tuple(_READERS)
"""Mesh files that `read_mesh` reads; all but STL keep the order of vertices."""

_REGISTERED_SUFFIXES = (".ply", ".obj", ".npy", ".npz")


def read_mesh(path: Path, limits: Limits | None = None) -> Mesh:
    """The mesh in a file with a suffix among `MESH_SUFFIXES`.

    Raises `InputError` where there is no such file, it is damaged, or declares more than `limits` allow.
    """
    limits = Limits.from_environment() if limits is None else limits
    return _read(path, _READERS[path.suffix.lower()], limits)


def read_corners(path: Path, limits: Limits | None = None) -> np.ndarray:
    """Corners float64 [F, 3, 3] of an STL file's triangles, in their order; raises `InputError` as `read_mesh` does."""
    return _read(path, read_stl_corners, Limits.from_environment() if limits is None else limits)


def _read(path: Path, reader: Callable[[Path, Limits], Any], limits: Limits) -> Any:
    try:
        with np.errstate(invalid="ignore"):  # a signalling NaN, which casting and comparing complain of, is a NaN
            return reader(path, limits)
    except Damaged as error:
        raise InputError(f"{path} can't be read as a mesh: it {error}.") from None


class Registered(NamedTuple):
    """Meshes of one topology."""

    vertices: np.ndarray
    """float32 [N, V, 3], in the files' unit."""
    subjects: list[str]
    """Whom each shows."""
    expressions: list[str]
    """And with what expression; empty where that isn't known."""
    total: int
    """How many there are, of which N were taken."""


def read_registered(folder: Path, n_vertices: int, *, most: int | None = None) -> Registered:
    """Registered meshes below a folder, `most` of them at even distances if there are more.

    A file holds one mesh (.ply, .obj, or .npy / .npz `vertices` [V,3]) or many (.npy / .npz [S,V,3]). In CoMA's layout,
    `subject/expression/frame.ply`, the first two folders name subject and expression; elsewhere each file is a subject
    of its own. Raises `InputError` for a folder that isn't there or holds no mesh, another number of vertices, values
    that are not finite, and files that are damaged or beyond the limits.
    """
    limits = Limits.from_environment()
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _REGISTERED_SUFFIXES and path.is_file())
    if not paths:
        raise InputError(f"{folder} holds no mesh ({', '.join(_REGISTERED_SUFFIXES)}); name a folder of such files.")
    packed = {path: _packed(path, n_vertices, limits) for path in paths if path.suffix.lower() in (".npy", ".npz")}
    every = [(path, i) for path in paths for i in range(len(packed[path]) if path in packed else 1)]
    count = len(every) if most is None else min(len(every), most)
    chosen = [every[i] for i in np.unique(np.linspace(0, len(every) - 1, count).round().astype(int))]
    vertices = np.empty((len(chosen), n_vertices, 3), np.float32)
    for row, (path, i) in zip(vertices, chosen, strict=True):
        points = packed[path][i] if path in packed else read_mesh(path, limits).vertices
        if points.shape != (n_vertices, 3):
            raise InputError(
                f"{path} has {len(points)} vertices, the head {n_vertices}: the meshes must be in its topology."
            )
        if not np.isfinite(points).all():
            raise InputError(f"{path} holds vertices that are not finite.")
        row[:] = points
    parts = [path.relative_to(folder).parts for path, _ in chosen]
    subjects = [part[0] if len(part) > 1 else path.stem for part, (path, _) in zip(parts, chosen, strict=True)]
    return Registered(vertices, subjects, [part[1] if len(part) > 2 else "" for part in parts], len(every))


def _packed(path: Path, n_vertices: int, limits: Limits) -> np.ndarray:
    if path.suffix.lower() == ".npy":
        array = read_npy(path, limits, limit="result_bytes")
    else:
        arrays = read_npz(path, limits, limit="result_bytes")
        if "vertices" not in arrays:
            raise InputError(f"{path} holds no array 'vertices'.")
        array = arrays["vertices"]
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[1:] != (n_vertices, 3):
        raise InputError(
            f"{path} holds no meshes of {n_vertices} vertices; an array [meshes, {n_vertices}, 3] is needed."
        )
    return array
