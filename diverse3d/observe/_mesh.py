"""A partial mesh in the head's topology → Observation."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from .._errors import InputError
from ..head import HeadModel, load_head
from ._observation import Observation, PartialMesh

MAX_MESH_BYTES = 512 << 20
"""Mesh files larger than this are refused unread."""

MESH_SUFFIXES = (".ply", ".obj", ".glb", ".gltf", ".stl", ".off", ".npz")
"""Mesh files that keep one vertex a line; `.npz` holds `vertices` [V,3] and perhaps `visible` [V]."""

_UNITS_M = (1.0, 0.1, 0.01, 0.001)
_VISIBLE_NAMES, _HIDDEN_NAMES = ("visible", "visibility"), ("hidden", "occluded", "mask")


def observe_mesh(
    mesh: Any,
    *,
    head: HeadModel | None = None,
    visible: np.ndarray | None = None,
    hidden_file: str | Path | None = None,
) -> Observation:
    """Observation from a partial mesh in the head's topology.

    `mesh` is a path, a `trimesh.Trimesh`, or an array of vertices [V,3]; `head` is the embedded one if none is given.
    Hidden vertices are marked by `visible` (bool [V]), by `hidden_file` (one 0/1 a vertex in .npy, .npz or text; 1
    hides), by a vertex attribute called visible, hidden, occluded or mask, or by NaN coordinates. Units from metres to
    millimetres are recognised by size. Raises `InputError` for another vertex count, no faces, or NaN in a visible
    vertex.
    """
    head = load_head() if head is None else head
    source = "mesh"
    marks: np.ndarray | None = None
    if isinstance(mesh, str | Path):
        source = Path(mesh).name
        vertices, marks = _read_mesh(Path(mesh))
    elif isinstance(mesh, trimesh.Trimesh):
        vertices, marks = _from_trimesh(mesh, source)
    else:
        vertices = _numbers(mesh, source)
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise InputError(f"{source} has vertices of shape {vertices.shape}; [{head.n_vertices}, 3] is needed.")
    if vertices.shape[0] != head.n_vertices:
        raise InputError(
            f"{source} has {vertices.shape[0]} vertices, but the head '{head.name}' has {head.n_vertices}: "
            "the mesh must be in the head's topology, vertex for vertex."
        )
    if hidden_file is not None:
        marks = ~_flags(_read_marks(Path(hidden_file)), head.n_vertices, str(hidden_file))
    elif visible is not None:
        marks = _flags(visible, head.n_vertices, "the visibility given")
    elif marks is not None:
        marks = _flags(marks, head.n_vertices, f"the visibility in {source}")
    finite = np.isfinite(vertices).all(1)
    if marks is None:
        marks = finite
    elif not finite[marks].all():
        count = int((~finite[marks]).sum())
        raise InputError(
            f"{source} has {count} vertices marked visible that are not finite; mark them hidden or mend them."
        )
    kept = np.where(marks[:, None], vertices, 0.0)
    unit_m = _unit(kept, marks, np.asarray(head.template_m, np.float64), source)
    digest = hashlib.sha256(kept.tobytes() + marks.tobytes()).hexdigest()
    return Observation(
        photo=None,
        mesh=PartialMesh(vertices_m=kept * unit_m, visible=marks, unit_m=unit_m),
        source=source,
        sha256=digest,
    )


def _unit(vertices: np.ndarray, visible: np.ndarray, template_m: np.ndarray, source: str) -> float:
    """Metres a unit, by comparing the visible part's size with the template's."""
    if visible.sum() < 4:
        return 1.0

    def spread(points: np.ndarray) -> float:
        return float(np.sqrt(((points - points.mean(0)) ** 2).sum(1).mean()))

    size = spread(vertices[visible])
    if size <= 0:
        raise InputError(f"{source}: all visible vertices lie in one point.")
    ratio = spread(template_m[visible]) / size
    unit_m = min(_UNITS_M, key=lambda unit: abs(np.log(ratio / unit)))
    if not 0.5 < ratio / unit_m < 2.0:
        raise InputError(
            f"{source}: the visible part is {1 / ratio:.3g} times the size of a head in metres; "
            "give it in metres, decimetres, centimetres or millimetres."
        )
    return unit_m


def _read_mesh(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    if path.stat().st_size > MAX_MESH_BYTES:
        raise InputError(f"{path} is larger than {MAX_MESH_BYTES >> 20} MiB; no mesh of a head is.")
    if path.suffix.lower() == ".npz":
        return _read_npz(path)
    try:
        # maintain_order and process=False keep the file's vertices one for one.
        loaded = trimesh.load(path, process=False, maintain_order=True, force="mesh")
    except Exception as error:  # trimesh's readers raise whatever a damaged file makes them stumble over
        raise InputError(f"{path} can't be read as a mesh ({type(error).__name__}: {error}).") from None
    if not isinstance(loaded, trimesh.Trimesh) or len(loaded.faces) == 0:
        raise InputError(f"{path} holds no faces; a mesh in the head's topology is needed.")
    return _from_trimesh(loaded, str(path))


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    arrays = _read_arrays(path)
    if "vertices" not in arrays:
        raise InputError(f"{path} holds no array 'vertices'.")
    return _numbers(arrays["vertices"], str(path)), arrays.get("visible")


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a .npz file by name, or the one of a .npy file; no pickles, and sizes are checked before unpacking."""
    try:
        with path.open("rb") as file:  # ours to close: numpy leaves it open when the archive is damaged
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"": loaded}
            unpacked = sum(entry.file_size for entry in loaded.zip.infolist())
            if unpacked > MAX_MESH_BYTES:
                raise InputError(f"{path} unpacks to {unpacked >> 20} MiB; no mesh of a head does.")
            return {name: loaded[name] for name in loaded.files}
    except InputError:
        raise
    except Exception as error:  # numpy, zipfile and zlib each raise their own for a damaged file
        raise InputError(f"{path} can't be read as arrays without pickles ({error}).") from None


def _numbers(values: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{what} holds values that are no numbers.") from None


def _flags(values: Any, count: int, what: str) -> np.ndarray:
    """One 0/1 a vertex as booleans."""
    numbers = _numbers(values, what)
    if numbers.shape != (count,):
        raise InputError(
            f"{what} has {numbers.size} values of shape {numbers.shape}, but the head has {count} vertices; "
            "one 0/1 a vertex is needed."
        )
    if not np.isfinite(numbers).all():
        raise InputError(f"{what} holds values that are neither 0 nor 1.")
    return numbers > 0.5


def _from_trimesh(mesh: trimesh.Trimesh, source: str) -> tuple[np.ndarray, np.ndarray | None]:
    if len(mesh.faces) == 0:
        raise InputError(f"{source} holds no faces; a mesh in the head's topology is needed.")
    attributes: dict[str, Any] = dict(mesh.vertex_attributes)
    # Of a PLY file trimesh keeps what it doesn't know aside: a record array if binary, a dictionary if text.
    raw = mesh.metadata.get("_ply_raw", {}).get("vertex", {}).get("data", {})
    attributes.update({name: raw[name] for name in (raw if isinstance(raw, dict) else raw.dtype.names or ())})
    vertices = np.asarray(mesh.vertices, np.float64)
    for name, values in attributes.items():
        if name.lower().lstrip("_") in _VISIBLE_NAMES + _HIDDEN_NAMES and np.size(values) == len(vertices):
            marked = np.asarray(values).reshape(-1) > 0.5
            return vertices, marked if name.lower().lstrip("_") in _VISIBLE_NAMES else ~marked
    return vertices, None


def _read_marks(path: Path) -> np.ndarray:
    """The values of a mask file."""
    if not path.is_file():
        raise InputError(f"There is no mask file {path}.")
    if path.stat().st_size > MAX_MESH_BYTES:
        raise InputError(f"{path} is larger than {MAX_MESH_BYTES >> 20} MiB; no mask of a head is.")
    if path.suffix.lower() in (".npy", ".npz"):
        arrays = _read_arrays(path)
        if len(arrays) != 1:
            raise InputError(f"{path} holds {len(arrays)} arrays; one array of 0/1 a vertex is needed.")
        return next(iter(arrays.values()))
    try:
        return np.loadtxt(path)
    except (ValueError, OSError) as error:
        raise InputError(f"{path} can't be read as one 0/1 a vertex ({error}).") from None
